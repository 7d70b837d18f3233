"""Megatron-Core: tensor, pipeline, virtual and expert parallelism, padded vocabularies.

A model of Megatron says where its parameters lie in the whole model, for its distributed
checkpoints: `sharded_state_dict` (read from 0.16.1). Its keys are not the names of parameters: a
layer's norm may have another one, and experts have no numbers. So positions are taken from it, and
names are the parameters' own, with the numbers of layers and experts of the whole model.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from initcore import PlanError, Violation
from torch import nn

from initclient.torch._layouts._layout import Layout, Piece, Slot
from initclient.torch._layouts._megatron_masters import refresh, refusal
from initclient.torch._layouts.dtensor import is_dtensor

# Classes around a model, which keep it as `module`.
_AROUND = frozenset({"DistributedDataParallel", "Float16Module"})

_OUTPUT = "output_layer.weight"


def layouts(slots: Sequence[Slot]) -> Iterable[tuple[int, Layout]]:
    """The layouts of everything in a model of Megatron.

    Raises:
        PlanError: for a parameter whose place in the whole model is not known.
    """
    if "megatron.core" not in sys.modules:
        return
    inside: dict[int, tuple[nn.Module, dict[int, Slot]]] = {}
    for index, slot in enumerate(slots):
        if (model := _model(slot.path)) is not None:
            inside.setdefault(id(model), (model, {}))[1][index] = slot
    for model, its in inside.values():
        yield from _layouts(model, its)


@dataclass
class _Place:
    """The position of one tensor in the whole model."""

    name: str
    shape: tuple[int, ...]
    pieces: list[Piece]
    is_padded: bool = False


class MegatronLayout(Layout):
    """The layout of a parameter or buffer of a model of Megatron."""

    def __init__(self, slot: Slot, place: _Place) -> None:
        super().__init__(slot)
        self._place = place

    @property
    def name(self) -> str:
        """The name in the model without pipeline stages and expert parallelism."""
        return self._place.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape without tensor parallelism, with the padding of a vocabulary."""
        return self._place.shape

    def pieces(self) -> Sequence[Piece]:
        """The rectangles that this process holds."""
        return self._place.pieces

    @property
    def is_padded(self) -> bool:
        """Whether the last rows may pad a vocabulary."""
        return self._place.is_padded

    @property
    def agreement(self) -> str:
        """The sizes of Megatron's parallel groups."""
        from megatron.core import parallel_state as state

        sizes = {
            "tensor": state.get_tensor_model_parallel_world_size(),
            "pipeline": state.get_pipeline_model_parallel_world_size(),
            "virtual": state.get_virtual_pipeline_model_parallel_world_size(),
            "expert": state.get_expert_model_parallel_world_size(),
        }
        return f"Megatron's sizes {sizes}"

    @property
    def refresh(self) -> Callable[[], object] | None:
        """Copies the values to the optimizer's copy in float32, if this process has one."""
        return refresh(self.slot)

    @property
    def refusal(self) -> str:
        """Why the optimizer's copies cannot be refreshed; "" if they can."""
        return refusal(self.slot)


def _model(path: Sequence[nn.Module]) -> nn.Module | None:
    """The outermost module of Megatron on a path that places its own parts."""
    for module in path:
        if type(module).__name__ in _AROUND and hasattr(module, "module"):
            continue
        theirs = any(kind.__module__.startswith("megatron.core.") for kind in type(module).__mro__)
        if theirs and hasattr(module, "sharded_state_dict"):
            return module
    return None


def _layouts(model: nn.Module, slots: Mapping[int, Slot]) -> Iterator[tuple[int, Layout]]:
    """The layouts of a model's parameters, and of the buffers that its checkpoints have."""
    if sharded := [slot.name for slot in slots.values() if is_dtensor(slot.tensor)]:
        message = (
            "is a DTensor in a model of Megatron, whose place in the whole model is not known; "
            "fill the model before TorchFullyShardedDataParallel or Megatron-FSDP shards it"
        )
        raise PlanError([Violation(name, "layout", message) for name in sharded])
    # A module may be at two places of its model, as the output layer of T5 is.
    every: dict[int, list[str]] = {}
    for find in (model.named_parameters, model.named_buffers):
        for name, tensor in find(remove_duplicate=False):
            every.setdefault(id(tensor), []).append(name)
    names = {key: found[0] for key, found in every.items()}
    places = _places(model, {id(slot.tensor): slot.tensor for slot in slots.values()}, names)
    unknown = []
    for index, slot in slots.items():
        first = names.get(id(slot.tensor), slot.name)
        own = _own_name(slot, every.get(id(slot.tensor), [slot.name]))
        place = places.get(id(slot.tensor))
        held = sum(piece.values.numel() for piece in place.pieces) if place else 0
        if place is not None and held == slot.tensor.numel():
            name = place.name if own == first or ".layers." in f".{own}" else own
            full = _prefix(slot, model, own) + name
            named = _Place(full, place.shape, place.pieces, place.is_padded)
            yield index, MegatronLayout(slot, named)
        elif not slot.is_buffer:
            message = (
                f"is {list(slot.tensor.shape)} here, and the sharded_state_dict of "
                f"{type(model).__name__} does not say which part of the whole parameter that is; "
                "load the plan's values as a checkpoint (ic.fetch_file)"
            )
            unknown.append(Violation(slot.name, "layout", message))
    if unknown:
        raise PlanError(unknown)


def _own_name(slot: Slot, names: Sequence[str]) -> str:
    """The name of one place of a tensor in the model: the longest that ends the slot's name."""
    fitting = [name for name in names if f".{slot.name}".endswith(f".{name}")]
    return max(fitting, key=len) if fitting else names[0]


def _prefix(slot: Slot, model: nn.Module, own: str) -> str:
    """What stands before the model's own names; nothing for the chunks of virtual stages."""
    prefix = slot.name.removesuffix(own) if slot.name.endswith(own) else ""
    around = [module for module in slot.path if type(module).__name__ not in _AROUND]
    is_chunk = len(around) > 1 and type(around[0]) is nn.ModuleList and around[1] is model
    return "" if is_chunk else prefix


def _places(
    model: nn.Module, tensors: Mapping[int, torch.Tensor], names: Mapping[int, str]
) -> dict[int, _Place]:
    """The positions of a model's tensors in the whole model, by their identity."""
    memory: dict[int, list[torch.Tensor]] = {}
    for tensor in sorted(tensors.values(), key=lambda one: one.storage_offset()):
        memory.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
    found: dict[int, _Place] = {}
    for shard in _shards(model):
        owner = _owner(shard.data, memory)
        if owner is None:
            continue
        axes = shard.prepend_axis_num
        shape = tuple(map(int, shard.global_shape[axes:]))
        bounds = tuple(
            (int(start), int(start + size))
            for start, size in zip(shard.global_offset[axes:], shard.local_shape, strict=True)
        )
        name = _name(names[id(owner)], shard)
        place = found.setdefault(id(owner), _Place(name, shape, []))
        if (place.name, place.shape) != (name, shape):
            message = f"has two places in Megatron's checkpoints: {place.name} {place.shape}"
            raise PlanError([Violation(name, "layout", f"{message} and {name} {shape}")])
        if any(piece.bounds == bounds for piece in place.pieces):
            # The same memory under another key.
            continue
        place.pieces.append(Piece(bounds, shard.data.detach()))
        place.is_padded |= bool(shard.allow_shape_mismatch)
    return found


def _shards(model: nn.Module) -> list[Any]:
    """The tensors of a model's distributed checkpoint, one for each rectangle."""
    from megatron.core import parallel_state as state

    try:
        # Each layer by its number: otherwise layers are one axis of a tensor.
        whole = model.sharded_state_dict(  # type: ignore[operator]
            metadata={
                "non_homogeneous_layers": True,
                "dp_cp_group": state.get_data_parallel_group(with_context_parallel=True),
            }
        )
        return list(_flat(whole))
    except Exception as error:
        message = (
            f"of {type(model).__name__} is not known, since its sharded_state_dict fails: "
            f"{type(error).__name__}: {error}"
        )
        raise PlanError([Violation("", "layout", message)]) from error


def _flat(value: Any) -> Iterator[Any]:
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

    if isinstance(value, ShardedTensorFactory):
        yield from _flat(value.build())
    elif isinstance(value, ShardedTensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _flat(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one)


def _owner(data: torch.Tensor, memory: Mapping[int, Sequence[torch.Tensor]]) -> torch.Tensor | None:
    """The tensor of which `data` is a rectangle, by its memory."""
    tensors = memory.get(data.untyped_storage()._cdata, ())
    first = data.storage_offset()
    # The buffers of distributed optimizers hold many parameters one after the other.
    place = bisect_right(tensors, first, key=lambda one: one.storage_offset()) - 1
    if place < 0:
        return None
    tensor = tensors[place]
    is_same_order = data.dim() == tensor.dim() and all(
        size == 1 or step == other
        for size, step, other in zip(data.shape, data.stride(), tensor.stride(), strict=True)
    )
    is_within = first < tensor.storage_offset() + tensor.numel()
    return tensor if is_same_order and is_within else None


def _name(own: str, shard: Any) -> str:
    """The name in the whole model of a parameter whose name in this model is `own`."""
    if ".layers." not in f".{own}":
        # The tied output layer of a last stage has the embedding's key.
        is_output = own.endswith(_OUTPUT)
        return str(shard.key) if is_output and not shard.key.endswith(_OUTPUT) else own
    lead = [int(start) for start in shard.global_offset[: shard.prepend_axis_num]]
    numbered = re.search(r"(?:^|\.)layers\.(\d+)\.", shard.key)
    layer = int(numbered[1]) if numbered else (lead.pop(0) if lead else None)
    if layer is not None:
        own = re.sub(r"((?:^|\.)layers\.)\d+\.", rf"\g<1>{layer}.", own, count=1)
    if lead:
        own = re.sub(r"(\.local_experts\.)\d+\.", rf"\g<1>{lead.pop(0)}.", own, count=1)
    if lead:
        message = f"has more axes in Megatron's checkpoints than are known here ({shard.key})"
        raise PlanError([Violation(own, "layout", message)])
    return own
