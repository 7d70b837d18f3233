"""Finds distinct parameters that share memory, where filling one overwrites another.

On the meta device nothing has an address. Two tensors share memory there if they have one storage,
at the places that their offsets and strides say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

from initclient.torch._model.named_tensors import Member


class _Range(NamedTuple):
    """Bytes of a memory, from the first to behind the last element of a tensor.

    Attributes:
        memory: the device, or the storage on meta.
        begin: the first byte.
        end: behind the last one.
        is_dense: whether the tensor has all elements in between.
    """

    memory: str
    begin: int
    end: int
    is_dense: bool


def overlaps(found: Iterable[Member]) -> Iterator[tuple[Member, Member]]:
    """Pairs of tensors that share memory, and tensors that overlap themselves.

    Of a tensor with gaps between its elements, only the first element is compared, since other
    tensors may rightly lie in the gaps. Skips a tensor on meta that has a storage of its own:
    it gets memory in which all its elements lie apart.

    Args:
        found: members; those of one tensor count once.

    Yields:
        (member, other), where `other` begins no later in memory; twice the same member for a
        tensor whose own elements share memory, such as an expanded one.
    """
    each_once: dict[int, Member] = {}
    for member in found:
        each_once.setdefault(id(member.tensor), member)
    held = [(member, member.local) for member in each_once.values()]
    on_meta = Counter(meta_storage(tensor) for _, tensor in held if tensor.is_meta)
    ranges = []
    devices: dict[torch.device, str] = {}
    for member, tensor in held:
        if tensor.is_meta and on_meta[meta_storage(tensor)] == 1:
            continue
        place = _range(tensor, devices)
        if place is None:
            continue
        if repeats(tensor):
            yield member, member
        end = place.end if place.is_dense else place.begin + tensor.element_size()
        ranges.append((place.memory, place.begin, end, member))
    ranges.sort(key=lambda each: each[:3])
    furthest = None
    for each in ranges:
        memory, begin, end, member = each
        if furthest is not None and furthest[0] == memory and begin < furthest[2]:
            yield member, furthest[3]
        if furthest is None or furthest[0] != memory or end > furthest[2]:
            furthest = each


def same_places(one: Member, other: Member) -> bool:
    """Whether two tensors are the same elements in memory, as if they were tied."""
    return places(one) == places(other)


def places(member: Member) -> tuple[Any, ...]:
    """A key of a tensor's elements in memory, equal for the same elements."""
    tensor = member.layout.local()
    if tensor.is_meta:
        begin: Any = (meta_storage(tensor), tensor.storage_offset())
    else:
        # Without memory, each tensor has a key of its own.
        begin = tensor.data_ptr() or id(member.tensor)
    return begin, tensor.dtype, tensor.shape, tensor.stride()


def views_on_meta(found: Iterable[Member], filled: Iterable[Member]) -> set[str]:
    """Names of the tensors on meta whose elements are all those of a filled one, as a view's are.

    They need no values of their own.
    """
    by_storage: dict[str, list[tuple[_Range, Member]]] = {}
    for member in filled:
        if (outer := _range_on_meta(member)) is not None:
            by_storage.setdefault(outer.memory, []).append((outer, member))
    names = set()
    for member in found:
        if (inner := _range_on_meta(member)) is None:
            continue
        for outer, other in by_storage.get(inner.memory, ()):
            is_within = outer.is_dense and outer.begin <= inner.begin and inner.end <= outer.end
            if is_within or same_places(member, other):
                names.add(member.name)
                break
    return names


def meta_storage(tensor: torch.Tensor) -> int:
    """A key of the storage of a tensor on meta, equal for all tensors that share it.

    0 for tensors without elements, which share nothing.
    """
    return tensor.untyped_storage()._cdata if tensor.numel() else 0


def repeats(tensor: torch.Tensor) -> bool:
    """Whether a tensor has an element at several places, as an expanded one."""
    if tensor.is_contiguous():
        return False
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and not step for size, step in sides)


def _range(tensor: torch.Tensor, devices: dict[torch.device, str]) -> _Range | None:
    """Where a tensor lies in memory; None for tensors without elements or memory."""
    length = tensor.numel()
    if not length:
        return None
    if tensor.is_meta:
        memory = f"meta {meta_storage(tensor)}"
        begin = int(tensor.storage_offset()) * tensor.element_size()
    else:
        begin = tensor.data_ptr()
        # Address 0: memory that was freed until it is needed (FSDP).
        if not begin:
            return None
        memory = devices.get(tensor.device) or devices.setdefault(tensor.device, str(tensor.device))
    extent = int(length)
    if not tensor.is_contiguous():
        sides = zip(tensor.shape, tensor.stride(), strict=True)
        extent = 1 + sum((int(size) - 1) * int(step) for size, step in sides)
    return _Range(memory, begin, begin + extent * tensor.element_size(), extent == length)


def _range_on_meta(member: Member) -> _Range | None:
    tensor = member.local
    return _range(tensor, {}) if tensor.is_meta and not repeats(tensor) else None
