"""The weights of an inference engine: fused modules, and shards of its tensor parallelism.

An engine such as vLLM keeps query, key and value in one parameter, and of each of them the rows of
its rank. Here each plan's tensor gets back the part of the engine's memory that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from initcore import PlanError, Tensor, Violation
from torch import nn

from initclient.torch._layouts import Layout, Piece, Slot
from initclient.torch._model import Member

FUSED: Mapping[str, Sequence[str]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
# Vocabularies are padded to a multiple of this on each rank.
_PADDED_TO = 64


@dataclass(frozen=True)
class Engine:
    """The layout of a model in an inference engine: fused modules and tensor parallelism.

    Attributes:
        rank: this process's rank in the engine's tensor parallelism.
        size: the number of its ranks.
        fused: by the last part of a fused module's name, those of the plan's modules, in the order
            of their rows; None means the model's own `packed_modules_mapping`, which models of
            vLLM have, or, without one, `qkv_proj` and `gate_up_proj` of Llama.
        name: maps a name of the engine to that of the plan, before fused modules are taken apart;
            None means that they are alike.

    Example:
        >>> import initclient.torch as ict
        >>> ict.Engine(rank=1, size=2).size
        2
    """

    rank: int = 0
    size: int = 1
    fused: Mapping[str, Sequence[str]] | None = None
    name: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(
                f"rank is {self.rank} and size {self.size}; rank is one of 0 to size - 1"
            )


def engine_members(
    model: object, found: Sequence[Member], engine: Engine, planned: Mapping[str, Tensor]
) -> list[Member]:
    """The plan's tensors in an engine's parameters, each with its own part of the memory.

    Args:
        model: the engine's model, or its tensors by name.
        found: its members.
        engine: its layout.
        planned: the plan's tensors.

    Raises:
        PlanError: naming every parameter that is not made of the plan's tensors in this layout.
    """
    fused = engine.fused
    if fused is None:
        own = getattr(model, "packed_modules_mapping", None) if isinstance(model, nn.Module) else {}
        fused = own or FUSED
    members: list[Member] = []
    violations: list[Violation] = []
    for member in found:
        name = member.name if engine.name is None else engine.name(member.name)
        names = _parts(name, fused)
        absent = [one for one in names if one not in planned]
        if absent and len(names) > 1 and name not in planned:
            message = f"is made of {', '.join(names)} here, and the plan has no {absent[0]}"
            violations.append(Violation(member.name, "layout", f"{message}; give Engine(fused=)"))
        elif absent or type(member.layout) is not Layout:
            slot = replace(member.layout.slot, name=name)
            same = type(member.layout) is not Layout and name == member.name
            members.append(member if same else Member(Layout(slot)))
        else:
            try:
                members += _taken_apart(member, {one: planned[one].shape for one in names}, engine)
            except _FitError as error:
                violations.append(Violation(member.name, "layout", str(error)))
    if violations:
        raise PlanError(violations)
    return members


class _EngineLayout(Layout):
    """The layout of a plan's tensor within a parameter of an engine."""

    def __init__(self, slot: Slot, shape: tuple[int, ...], piece: Piece, padded: bool) -> None:
        super().__init__(slot)
        self._shape, self._piece, self._padded = shape, piece, padded

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def is_padded(self) -> bool:
        return self._padded

    def pieces(self) -> Sequence[Piece]:
        return [self._piece] if self._piece.values.numel() else []

    def local(self) -> torch.Tensor:
        return self._piece.values


class _FitError(Exception):
    """A parameter is not made of the plan's tensors in this layout."""


def _parts(name: str, fused: Mapping[str, Sequence[str]]) -> list[str]:
    """The plan's names of a parameter: several for a fused one."""
    module, _, attribute = name.rpartition(".")
    before, _, last = module.rpartition(".")
    start = f"{before}." if before else ""
    return [f"{start}{one}.{attribute}" for one in fused[last]] if last in fused else [name]


def _taken_apart(
    member: Member, shapes: Mapping[str, tuple[int, ...]], engine: Engine
) -> Iterator[Member]:
    """A member for each of the plan's tensors that a parameter is made of.

    Raises:
        _FitError: if it is not made of them.
    """
    values, slot = member.layout.local(), member.layout.slot
    if not values.numel() and any(math.prod(shape) for shape in shapes.values()):
        raise _FitError(
            "has no elements here: the engine keeps its values in another form, as vLLM does on "
            "CPUs and for quantized layers, so that there is nothing to compare"
        )
    if len(shapes) == 1:
        ((name, shape),) = shapes.items()
        bounds, whole = _bounds(tuple(values.shape), shape, engine)
        layout = _EngineLayout(
            replace(slot, name=name), whole, Piece(bounds, values), whole != shape
        )
        yield Member(layout, member.persistent)
        return
    at = 0
    for (name, shape), (first, rows) in zip(
        shapes.items(), _rows(tuple(values.shape), shapes, engine), strict=True
    ):
        bounds = ((first, first + rows), *((0, size) for size in shape[1:]))
        piece = Piece(bounds, values[at : at + rows])
        layout = _EngineLayout(replace(slot, name=name), shape, piece, False)
        yield Member(layout, member.persistent)
        at += rows


def _bounds(
    local: tuple[int, ...], shape: tuple[int, ...], engine: Engine
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """The rectangle of a tensor that this rank holds, and its shape with rows of padding."""
    whole = tuple((0, size) for size in shape)
    if local == shape:
        return whole, shape
    for axis in range(len(shape) if len(local) == len(shape) else 0):
        size = local[axis]
        others = local[:axis] + local[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
        padding = size * engine.size - shape[axis]
        may_pad = axis == 0 and len(shape) == 2 and not (padding + shape[0]) % _PADDED_TO
        if others and (not padding or (may_pad and 0 < padding < _PADDED_TO * engine.size)):
            cut = (engine.rank * size, (engine.rank + 1) * size)
            padded = (shape[0] + padding, *shape[1:]) if axis == 0 else shape
            return (*whole[:axis], cut, *whole[axis + 1 :]), padded
    raise _FitError(
        f"is {list(local)} here, which is neither the plan's {list(shape)} nor rank "
        f"{engine.rank}'s rows or columns of it on {engine.size} (Engine(rank=, size=))"
    )


def _rows(
    local: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], engine: Engine
) -> list[tuple[int, int]]:
    """For each tensor of a fused parameter, its first row here, and the number of rows."""
    sizes = [shape[0] for shape in shapes.values()]
    if all(shape[1:] == local[1:] for shape in shapes.values()):
        if not any(size % engine.size for size in sizes) and sum(sizes) == local[0] * engine.size:
            return [(engine.rank * (n // engine.size), n // engine.size) for n in sizes]
        first, *others = sizes
        left = local[0] - first // engine.size
        rows = left // max(1, len(others))
        # With fewer key and value heads than ranks, several ranks have the same one.
        is_even = not first % engine.size and len(set(others)) == 1 and rows * len(others) == left
        if is_even and rows > 0 and not others[0] % rows:
            groups = others[0] // rows
            if groups < engine.size and not engine.size % groups:
                copy = engine.rank // (engine.size // groups)
                own = first // engine.size
                return [(engine.rank * own, own), *((copy * rows, rows) for _ in others)]
    described = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    rest = list(next(iter(shapes.values()))[1:])
    total = math.ceil(sum(sizes) / engine.size)
    raise _FitError(
        f"is {list(local)} here, and {described} on {engine.size} ranks make {[total, *rest]}; "
        "give the engine's tensor parallel size (Engine(rank=, size=)) and its fused modules in "
        "their order (fused=)"
    )
