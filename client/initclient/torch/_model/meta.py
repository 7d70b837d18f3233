"""Materializes a model: memory for tensors on meta, shards instead of gathered copies."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import nn

from initclient.torch._layouts import is_dtensor
from initclient.torch._model.memory import meta_storage, repeats
from initclient.torch._model.named_tensors import Member


def materialize(
    model: nn.Module, found: Sequence[Member], device: torch.device | str | None
) -> bool:
    """Gives memory, of no particular content, to everything on the meta device.

    Unlike `model.to_empty`, tensors that have memory keep it with their values, and tied
    parameters stay tied. Distinct tensors with one storage on meta get one memory too.

    Args:
        model: the model.
        found: its members.
        device: the device of the memory; None means the mesh's device type where there are
            DTensors, else torch's default device.

    Returns:
        Whether anything was there.
    """
    if not any(member.tensor.is_meta for member in found):
        return False
    where = _device(found) if device is None else torch.device(device)
    shared = _shared(found, where)

    def fill_in(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor
        made = shared.get(id(tensor))
        return torch.empty_like(tensor, device=where) if made is None else made

    # Through _apply, as torch's own moves of a model: FSDP2 and the recurrent modules keep
    # references to their parameters and update them there.
    model._apply(fill_in)  # type: ignore[no-untyped-call]
    _tie(found)
    return True


def reshard(model: nn.Module) -> bool:
    """Puts the shards back where FSDP2 has left gathered parameters after a forward.

    FSDP2 discards gathered parameters, with all values written to them.

    Returns:
        Whether there are modules of FSDP2, whose parameters may be other tensors now.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return False
    sharded = [module for module in model.modules() if isinstance(module, fsdp.FSDPModule)]
    for module in sharded:
        module.reshard()
    return bool(sharded)


def _device(found: Sequence[Member]) -> torch.device:
    for member in found:
        if is_dtensor(member.tensor):
            return torch.device(member.tensor.device_mesh.device_type)
    default = torch.get_default_device()
    return torch.device("cpu") if default.type == "meta" else default


def _shared(found: Sequence[Member], where: torch.device) -> dict[int, torch.Tensor]:
    """Memory for the tensors that share a storage on meta, by their identity.

    Not a tensor with a storage of its own, since the storage may be far larger than the tensor. And
    not an expanded one: its elements get memory apart from each other, as values need it.
    """
    groups: dict[int, dict[int, torch.Tensor]] = {}
    for tensor in {id(member.tensor): member.tensor for member in found}.values():
        if not tensor.is_meta:
            continue
        local = _local(tensor)
        if (storage := meta_storage(local)) and not repeats(local):
            groups.setdefault(storage, {})[id(tensor)] = tensor
    made: dict[int, torch.Tensor] = {}
    for group in groups.values():
        if len(group) > 1:
            nbytes = max(_local(tensor).untyped_storage().nbytes() for tensor in group.values())
            memory = torch.empty(nbytes, dtype=torch.uint8, device=where).untyped_storage()
            made |= {key: _in_memory(tensor, memory) for key, tensor in group.items()}
    return made


def _in_memory(tensor: torch.Tensor, memory: torch.UntypedStorage) -> torch.Tensor:
    """A tensor like one on meta, at the same places of a storage that has memory."""
    with torch.no_grad():
        local = _local(tensor)
        # Through new_empty, which keeps the class of the tensor.
        made = local.new_empty(0, device=memory.device)
        made.set_(memory, local.storage_offset(), local.size(), local.stride())
        made = made.conj() if local.is_conj() else made
        made = torch._neg_view(made) if local.is_neg() else made
        if not is_dtensor(tensor):
            return made
        return type(tensor).from_local(
            made,
            tensor.device_mesh,
            tensor.placements,
            run_check=False,
            shape=tensor.size(),
            stride=tensor.stride(),
        )


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or of a DTensor this process's part."""
    with torch.no_grad():
        return tensor.to_local() if is_dtensor(tensor) else tensor


def _tie(before: Sequence[Member]) -> None:
    """Ties again tensors that were tied before, and keeps their attributes."""
    made: dict[int, torch.Tensor] = {}
    for member in before:
        old, owner = member.tensor, member.owner
        tensor = getattr(owner, member.attribute)
        first = made.setdefault(id(old), tensor)
        if first is not tensor:
            # Through setattr, since recurrent modules keep a second list of their weights.
            setattr(owner, member.attribute, first)
        if first is not old:
            # Attributes such as tensor-parallel marks, which torch does not copy.
            for name, value in vars(old).items():
                first.__dict__.setdefault(name, value)
