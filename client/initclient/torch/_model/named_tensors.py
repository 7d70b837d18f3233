"""The parameters and buffers of a model, named as in the unwrapped model.

Wrappers (DDP, FSDP, torch.compile, activation checkpointing, Lightning Fabric) put a module around
another one and a prefix into every name below it. Here these prefixes are left out, so that a model
has the same names, and therefore the same weights, in every wrapper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from initcore import PlanError, Violation
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from initclient.torch._layouts import Layout, Piece, Slot, layouts_of, planned_pieces, unbuilt
from initclient.torch._model.foreign_shapes import foreign_shape, other_shape
from initclient.torch._model.layer_shapes import shape_by_layer

# Attributes in which wrappers keep the wrapped module. Models do not use these names.
_WRAPPED = frozenset(
    {"_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_forward_module"}
)

# Models use the name "module" too, so the wrapper's class decides.
_WRAPPERS = frozenset(
    {"DistributedDataParallel", "DataParallel", "Float16Module", "DeepSpeedEngine"}
)


class Member:
    """One parameter or buffer, at one of its places in the model.

    Attributes:
        layout: its layout over processes.
        persistent: whether the state dict has it.
        name: its name in the whole model's own state dict, without wrappers.
        tensor: the parameter or buffer itself.
        attribute: its name in the module that owns it.
        path: the modules from the model down to the owner.
        is_buffer: whether it is a buffer.
    """

    # Attributes rather than properties: a model has thousands, and each is asked dozens of times.
    # (`functools.cached_property` takes a lock before Python 3.12.)
    __slots__ = (
        "_pieces",
        "_shape",
        "attribute",
        "is_buffer",
        "layout",
        "name",
        "path",
        "persistent",
        "tensor",
    )

    def __init__(self, layout: Layout, persistent: bool = True) -> None:
        slot = layout.slot
        self.layout, self.persistent, self.name = layout, persistent, layout.name
        self.tensor, self.attribute = slot.tensor, slot.attribute
        self.path, self.is_buffer = slot.path, slot.is_buffer
        self._shape: tuple[int, ...] | None = None
        self._pieces: list[Piece] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its global shape."""
        if self._shape is None:
            self._shape = self.layout.shape
        return self._shape

    @property
    def pieces(self) -> list[Piece]:
        """The rectangles that this process holds, with its memory as it is at the first call.

        Raises:
            PlanError: for a layout that is not known.
        """
        if self._pieces is None:
            self._pieces = list(self.layout.pieces())
        return self._pieces

    @property
    def local(self) -> torch.Tensor:
        """The memory of all pieces, as one tensor of any shape, detached."""
        # Of a tensor that is whole here, that is its one piece.
        if type(self.layout) is Layout and self.pieces:
            return self.pieces[0].values
        return self.layout.local()

    def planned(self, shape: tuple[int, ...]) -> list[Piece]:
        """The pieces that a plan's tensor of this shape has values for: without rows of padding."""
        return self.pieces if shape == self.shape else planned_pieces(self.layout, shape)

    @property
    def owner(self) -> nn.Module:
        """The module that holds it."""
        return self.path[-1]

    @property
    def padding_row(self) -> int | None:
        """The row that torch's embeddings hold at zero, if there is one."""
        if self.attribute != "weight" or not isinstance(self.owner, nn.Embedding | nn.EmbeddingBag):
            return None
        return self.owner.padding_idx


def members(model: nn.Module) -> list[Member]:
    """Every parameter and buffer in the order of the state dict; tied ones at every place.

    Raises:
        PlanError: for parameters that have no shape, that FSDP1 has flattened, or whose shape is
            not the model's (DeepSpeed, Megatron), and for two tensors of the same name.
        TypeError: for a model that is no module.
    """
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"the model is {kind}; give a torch.nn.Module")
    if empty := unbuilt(model):
        message = "this {} of Keras has no weights yet; build the model, or call it once"
        raise PlanError(Violation(name, "shape", message.format(kind)) for name, kind in empty)
    visited = list(_visit(model, "", ()))
    _refuse([slot for slot, _ in visited])
    layouts = layouts_of([slot for slot, _ in visited])
    found = [Member(layout, kept) for layout, (_, kept) in zip(layouts, visited, strict=True)]
    # A library may keep a parameter in several places under one name, as Keras does.
    each: dict[tuple[str, int], Member] = {}
    for member in found:
        each.setdefault((member.name, id(member.tensor)), member)
    found = list(each.values())
    _check(found)
    return found


def named(tensors: Mapping[str, torch.Tensor]) -> list[Member]:
    """Tensors by name, such as a state dict's, whose modules are not known.

    Raises:
        PlanError: for parameters whose shape is not the model's.
    """
    found = [Member(one) for one in layouts_of([Slot(n, n, t) for n, t in tensors.items()])]
    if violations := _foreign(found):
        raise PlanError(violations)
    return found


def class_name(module: nn.Module) -> str:
    """The name of a module's class, without the class FSDP... that `fully_shard` puts before it."""
    kinds = type(module).__mro__
    own = (kind for kind in kinds if not kind.__module__.startswith("torch.distributed.fsdp"))
    return next(own).__name__


def children_of(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules in a module, with the prefixes of the names in them, without wrappers."""
    for name, child in module._modules.items():
        # Fabric's wrapper has the model twice: as it is called, and as it was given.
        is_again = name == "_original_module" and type(module).__name__ == "_FabricModule"
        if child is not None and not is_again:
            wraps = name in _WRAPPED or (name == "module" and type(module).__name__ in _WRAPPERS)
            yield prefix if wraps else f"{prefix}{name}.", child


def _visit(
    module: nn.Module, prefix: str, path: tuple[nn.Module, ...]
) -> Iterator[tuple[Slot, bool]]:
    """Parameters and buffers, and whether the state dict has them."""
    path = (*path, module)
    for attribute, parameter in module._parameters.items():
        if parameter is not None:
            yield Slot(prefix + attribute, attribute, parameter, path), True
    for attribute, buffer in module._buffers.items():
        if buffer is not None:
            persistent = attribute not in module._non_persistent_buffers_set
            yield Slot(prefix + attribute, attribute, buffer, path, True), persistent
    for below, child in children_of(module, prefix):
        yield from _visit(child, below, path)


def _refuse(slots: Sequence[Slot]) -> None:
    """Refuses tensors without strides and memory of their own."""
    violations = [
        Violation(slot.name, "shape", f"is {how}, which has no rows of elements to fill")
        for slot in slots
        if (how := _unusual(slot.tensor))
    ]
    if violations:
        raise PlanError(violations)


def _foreign(found: Iterable[Member]) -> list[Violation]:
    """Violations of parameters that no adapter knows and whose shape is not the model's."""
    return [
        Violation(member.name, "shape", message)
        for member in found
        if type(member.layout) is Layout
        and (message := foreign_shape(member.tensor, _owner(member), member.attribute))
    ]


def _owner(member: Member) -> nn.Module | None:
    return member.path[-1] if member.path else None


def _check(found: Sequence[Member]) -> None:
    violations: list[Violation] = []
    tensors: dict[str, torch.Tensor] = {}
    flattened = _flattened(found)
    for member in found:
        if tensors.setdefault(member.name, member.tensor) is not member.tensor:
            message = "two tensors of the model have this name once wrappers are left out"
            violations.append(Violation(member.name, "name", message))
        if isinstance(member.tensor, UninitializedParameter | UninitializedBuffer):
            message = (
                f"this parameter of a lazy module, {class_name(member.owner)}, has no shape yet; "
                "run the model once, or make the module with its sizes"
            )
            violations.append(Violation(member.name, "shape", message))
        elif member.name in flattened:
            message = (
                "FullyShardedDataParallel has flattened this parameter; use the model before it is "
                "wrapped, or within FullyShardedDataParallel.summon_full_params (fully_shard, its "
                "successor, needs neither)"
            )
            violations.append(Violation(member.name, "shape", message))
        else:
            violations += _foreign([member])
    wrong = {violation.tensor for violation in violations}
    violations += _unlike([member for member in found if member.name not in wrong])
    if violations:
        raise PlanError(violations)


def _unlike(found: Sequence[Member]) -> list[Violation]:
    """Violations of parameters that no adapter knows and whose layers have other shapes."""
    wrong = [
        (member, message)
        for member in found
        if type(member.layout) is Layout
        and (message := other_shape(member.tensor, _owner(member), member.attribute))
    ]
    if not wrong:
        return []
    # Of a tied parameter one layer may have taken another's weight, and kept its own sizes.
    agreed = {
        id(member.tensor)
        for member in found
        if shape_by_layer(_owner(member), member.attribute) == tuple(member.tensor.shape)
    }
    return [
        Violation(member.name, "shape", message)
        for member, message in wrong
        if id(member.tensor) not in agreed
    ]


def _unusual(tensor: torch.Tensor) -> str:
    """The layout of a tensor without shape and strides or memory of its own; empty for others."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        return "quantized"
    return "" if tensor.layout is torch.strided else f"sparse ({tensor.layout})"


def _flattened(found: Sequence[Member]) -> set[str]:
    """Names of parameters that FSDP1 holds in a flat parameter, without the model's shape."""
    shapes: dict[tuple[int, str], tuple[int, ...]] = {}
    for module in {id(m): m for member in found for m in member.path}.values():
        flat: Any = getattr(getattr(module, "_handle", None), "flat_param", None)
        if _is_flat(flat):
            for info, shape in zip(flat._param_infos, flat._shapes, strict=True):
                shapes[id(info.module), info.param_name] = tuple(shape)
    flattened = set()
    for member in found:
        shape = shapes.get((id(member.owner), member.attribute))
        if _is_flat(member.tensor) or (shape is not None and shape != member.shape):
            flattened.add(member.name)
    return flattened


def _is_flat(tensor: torch.Tensor | None) -> bool:
    # FSDP1's mark of its flat parameters, whose class is Parameter.
    return getattr(tensor, "_is_flat_param", False)
