"""Finds distinct parameters that share memory, where filling one overwrites another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from initclient.torch._model.named_tensors import Member


def overlaps(found: Iterable[Member]) -> Iterator[tuple[Member, Member]]:
    """Pairs of tensors that share memory, and tensors that overlap themselves.

    Skips tensors on the meta device. Of a tensor with gaps between its elements, only the first
    element is compared, since other tensors may rightly lie in the gaps.

    Args:
        found: members; those of one tensor count once.

    Yields:
        (member, other), where `other` begins no later in memory; twice the same member for a
        tensor whose own elements share memory, such as an expanded one.
    """
    each_once: dict[int, Member] = {}
    for member in found:
        each_once.setdefault(id(member.tensor), member)
    ranges = []
    devices: dict[torch.device, str] = {}
    for member in each_once.values():
        tensor = member.local
        length = tensor.numel()
        begin = 0 if tensor.is_meta or not length else tensor.data_ptr()
        # Address 0: memory that was freed until it is needed (FSDP).
        if not begin:
            continue
        if not tensor.is_contiguous():
            sizes = list(zip(tensor.shape, tensor.stride(), strict=True))
            if any(size > 1 and not step for size, step in sizes):
                yield member, member
            extent = 1 + sum((size - 1) * step for size, step in sizes)
            length = extent if extent == length else 1
        device = devices.get(tensor.device) or devices.setdefault(tensor.device, str(tensor.device))
        ranges.append((device, begin, begin + length * tensor.element_size(), member))
    ranges.sort(key=lambda each: each[:3])
    furthest = None
    for each in ranges:
        device, begin, end, member = each
        if furthest is not None and furthest[0] == device and begin < furthest[2]:
            yield member, furthest[3]
        if furthest is None or furthest[0] != device or end > furthest[2]:
            furthest = each


def same_places(one: Member, other: Member) -> bool:
    """Whether two tensors are the same elements in memory, as if they were tied."""
    return places(one) == places(other)


def places(member: Member) -> tuple[Any, ...]:
    """A key of a tensor's elements in memory, equal for the same elements."""
    tensor = member.layout.local()
    # Without memory, each tensor has a key of its own.
    begin = tensor.data_ptr() or id(member.tensor)
    return begin, tensor.dtype, tensor.shape, tensor.stride()
