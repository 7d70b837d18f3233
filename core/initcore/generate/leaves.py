"""The leaves of a composed tensor, which hold its elements: box by box, or position by position.

Large boxes (`initcore.resolve.composition`) are made one by one. Where permutations cut them
down to single elements, arrays of positions are many times as fast: each composed tensor maps
positions of its elements to positions in its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from initcore.generate.regions import Positions
from initcore.resolve import (
    Box,
    Composed,
    DeltaOrthogonal,
    Orthogonal,
    Pretrained,
    Resolved,
    boxes,
    reshaped,
    shares,
)

# Leaves with fewer elements than this on average are made by positions, not one by one.
_FEW = 512

# Positions that are mapped together: so many stay in the CPU's cache.
_TOGETHER = 1 << 15


def is_elementwise(tensor: Resolved) -> bool:
    """Whether any element can be made at little cost: without a matrix and without a checkpoint."""
    if isinstance(tensor.content, Orthogonal | DeltaOrthogonal | Pretrained):
        return False
    return all(is_elementwise(part) for part in tensor.parts)


def boxes_of(tensor: Resolved, first: int, count: int) -> list[Box]:
    """Elements first .. first + count - 1 of the wanted part, as boxes of the whole tensor."""
    return [_within(box, tensor.bounds) for box in boxes(tensor.shard_shape, first, count)]


def large_leaves(tensor: Resolved, block: Sequence[Box], count: int) -> list[Resolved] | None:
    """The leaves of boxes of `count` elements; None if they are too many to make one by one."""
    most = 64 + count // _FEW
    leaves = (leaf for box in block for leaf in _leaves(tensor, box))
    found = list(islice(leaves, most + 1))
    return None if len(found) > most else found


def _leaves(tensor: Resolved, box: Box) -> Iterator[Resolved]:
    """The leaves of a box, at any depth, each cut to the elements that the box holds."""
    content = tensor.content
    if not isinstance(content, Composed):
        yield replace(tensor, bounds=box)
        return
    shapes = [part.shape for part in tensor.parts]
    if content.scheme == "reshape":
        for run in reshaped(tensor.shape, shapes[0], box):
            for inner in run:
                yield from _leaves(tensor.parts[0], inner)
    else:
        for number, inner, _ in shares(content, shapes, box):
            yield from _leaves(tensor.parts[number], inner)


def positions_of(shape: Sequence[int], boxes: Iterable[Box]) -> Positions:
    """The positions of the elements of boxes, one box after the other, each row by row."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    parts = []
    for box in boxes:
        base = sum(start * stride for (start, _), stride in zip(box, strides, strict=True))
        found = np.full(1, base, dtype=np.uint64)
        for (start, stop), stride in zip(box, strides, strict=True):
            if stop - start > 1:
                axis = np.arange(stop - start, dtype=np.uint64) * np.uint64(stride)
                found = (found[:, None] + axis).reshape(-1)
        parts.append(found)
    return np.concatenate(parts)


def spread(
    tensor: Resolved, positions: Positions, pulse: Callable[[], None] = lambda: None
) -> Iterator[tuple[Resolved, Positions, Positions]]:
    """The leaves that hold the elements at these positions.

    Elements in zero rows of composed tensors are left out.

    Yields:
        (leaf, positions, places): elements of `leaf`, ascending, and which of the positions
        asked for each of them is.
    """
    yield from _spread(tensor, positions, np.arange(len(positions), dtype=np.uint64), pulse)


def _spread(
    tensor: Resolved, positions: Positions, places: Positions, pulse: Callable[[], None]
) -> Iterator[tuple[Resolved, Positions, Positions]]:
    pulse()
    if not len(positions):
        return
    content = tensor.content
    if not isinstance(content, Composed):
        order = np.argsort(positions, kind="stable")
        yield tensor, positions[order], places[order]
        return
    if tensor.zero_rows:
        row = positions // np.uint64(math.prod(tensor.shape[1:]))
        kept = ~np.isin(row, np.array(tensor.zero_rows, dtype=np.uint64))
        positions, places = positions[kept], places[kept]
        if not len(positions):
            return
    if content.scheme == "reshape":
        yield from _spread(tensor.parts[0], positions, places, pulse)
    elif content.scheme == "broadcast_to":
        moved = _narrowed(tensor.shape, tensor.parts[0].shape, positions)
        yield from _spread(tensor.parts[0], moved, places, pulse)
    elif content.scheme == "permute":
        moved = _permuted(tensor.shape, tensor.parts[0].shape, content.axes, positions)
        yield from _spread(tensor.parts[0], moved, places, pulse)
    else:
        yield from _joined(tensor, content, positions, places, pulse)


def _permuted(
    shape: Sequence[int], part: Sequence[int], axes: Sequence[int], positions: Positions
) -> Positions:
    """Positions in a part whose dimensions `axes` are those of the permuted tensor."""
    strides = [math.prod(part[axis + 1 :]) for axis in range(len(part))]
    # Adjacent axes that stay adjacent are merged into one, and axes of one element are dropped.
    merged: list[tuple[int, int]] = []
    for size, axis in zip(shape, axes, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == size * strides[axis]:
            merged[-1] = merged[-1][0] * size, strides[axis]
        else:
            merged.append((size, strides[axis]))
    found = np.zeros(len(positions), dtype=np.uint64)
    for start in range(0, len(positions), _TOGETHER):
        rest, some = positions[start : start + _TOGETHER], found[start : start + _TOGETHER]
        for size, stride in reversed(merged):
            above = rest // np.uint64(size)
            some += (rest - above * np.uint64(size)) * np.uint64(stride)
            rest = above
    return found


def _narrowed(shape: Sequence[int], part: Sequence[int], positions: Positions) -> Positions:
    """Positions in a part that is broadcast to a shape."""
    found = np.zeros(len(positions), dtype=np.uint64)
    rest, stride = positions, 1
    for size, inner in zip(reversed(shape), reversed(part), strict=False):
        above = rest // np.uint64(size)
        if inner > 1:
            found += (rest - above * np.uint64(size)) * np.uint64(stride)
        rest, stride = above, stride * inner
    return found


def _joined(
    tensor: Resolved,
    content: Composed,
    positions: Positions,
    places: Positions,
    pulse: Callable[[], None],
) -> Iterator[tuple[Resolved, Positions, Positions]]:
    shape, axis = tensor.shape, content.axis
    inner = math.prod(shape[axis + 1 :])
    sizes = [1 if content.scheme == "stack" else part.shape[axis] for part in tensor.parts]
    ends = np.cumsum(np.array(sizes, dtype=np.uint64))
    rest, inside = np.divmod(positions, np.uint64(inner))
    outer, place = np.divmod(rest, np.uint64(shape[axis]))
    number = np.searchsorted(ends, place, "right")
    begin = ends[number] - np.array(sizes, dtype=np.uint64)[number]
    size = np.array(sizes, dtype=np.uint64)[number]
    moved = (outer * size + (place - begin)) * np.uint64(inner) + inside
    order = np.argsort(number, kind="stable")
    number, moved, places = number[order], moved[order], places[order]
    breaks = np.flatnonzero(np.diff(number)) + 1
    for first, last in zip((0, *breaks), (*breaks, len(number)), strict=True):
        part = tensor.parts[int(number[first])]
        yield from _spread(part, moved[first:last], places[first:last], pulse)


def _within(box: Box, bounds: Box) -> Box:
    """A box of the wanted part, in positions of the whole tensor."""
    return tuple(
        (start + base, stop + base) for (start, stop), (base, _) in zip(box, bounds, strict=True)
    )
