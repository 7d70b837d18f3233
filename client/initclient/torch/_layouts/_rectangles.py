"""Rectangles of a whole tensor: from runs of positions, and from a range of its elements.

A rank's part of a dimension is a list of runs of global positions: one run for plain sharding,
several for FSDP2 over tensor parallelism (strided sharding). The local tensor is the product of
the runs of its dimensions, so it consists of rectangles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from initclient.torch._layouts._layout import Piece

Runs: TypeAlias = list[tuple[int, int]]
"""(start, stop) of global positions, in the order in which the local tensor holds them."""

Bounds: TypeAlias = tuple[tuple[int, int], ...]
"""(start, stop) in each dimension."""


@dataclass(frozen=True)
class Shard:
    """The part of a parameter or buffer that this process holds.

    Attributes:
        tensor: the local tensor, which shares its memory with the model.
        runs: for each dimension, the global positions in the local order.
    """

    tensor: torch.Tensor
    runs: tuple[Runs, ...]

    def pieces(self) -> list[Piece]:
        """Its rectangles; an empty list if it is empty."""
        if self.tensor.numel() == 0:
            return []
        if all(len(runs) == 1 for runs in self.runs):
            return [Piece(tuple([runs[0] for runs in self.runs]), self.tensor)]
        placed = []
        for runs in self.runs:
            ends = itertools.accumulate((stop - start for start, stop in runs), initial=0)
            local = [slice(begin, end) for begin, end in itertools.pairwise(ends)]
            placed.append(list(zip(runs, local, strict=True)))
        return [
            Piece(tuple(run for run, _ in box), self.tensor[tuple(place for _, place in box)])
            for box in itertools.product(*placed)
        ]


def cut(runs: Runs, chunks: int, chunk: int, split_factor: Any = 1) -> Runs:
    """The runs of a tensor dimension after one more mesh dimension has cut it.

    As torch.chunk: pieces of ceil(size / chunks), the last ones smaller or empty. With a
    split factor (_StridedShard, placement_types.py in torch.distributed.tensor) the dimension
    is first cut into that many pieces, and each of them is cut into chunks.

    Args:
        runs: the runs after earlier mesh dimensions.
        chunks: the size of this mesh dimension.
        chunk: this process's index in it.
        split_factor: number of pieces to cut first.
    """
    size = sum(stop - start for start, stop in runs)
    left: Runs = []
    for first, last in (_chunk(size, int(split_factor), i) for i in range(int(split_factor))):
        begin, end = _chunk(last - first, chunks, chunk)
        left += _between(runs, first + begin, first + end)
    return _joined(left)


def rectangles(shape: tuple[int, ...], first: int, last: int) -> Iterator[Bounds]:
    """The elements first .. last - 1 of a tensor in row-major order, as rectangles in this order.

    At most two for each dimension but the last, and one.

    Args:
        shape: the shape of the tensor.
        first: the first element.
        last: the element after the last one.
    """
    if first >= last:
        return
    if len(shape) < 2:
        yield ((first, last),) if shape else ()
        return
    row = math.prod(shape[1:])
    begin, end = -(-first // row), last // row
    if begin > end:
        # All within one row.
        for inner in rectangles(shape[1:], first - end * row, last - end * row):
            yield ((end, begin), *inner)
        return
    if first % row:
        for inner in rectangles(shape[1:], first % row, row):
            yield ((begin - 1, begin), *inner)
    if begin < end:
        yield ((begin, end), *((0, size) for size in shape[1:]))
    if last % row:
        for inner in rectangles(shape[1:], 0, last % row):
            yield ((end, end + 1), *inner)


def _chunk(size: int, chunks: int, index: int) -> tuple[int, int]:
    step = -(-size // chunks)
    return min(index * step, size), min((index + 1) * step, size)


def _between(runs: Runs, begin: int, end: int) -> Runs:
    """The runs of the local positions begin .. end - 1."""
    found: Runs = []
    at = 0
    for start, stop in runs:
        first, last = max(begin, at), min(end, at + stop - start)
        if first < last:
            found.append((start + first - at, start + last - at))
        at += stop - start
    return found


def _joined(runs: Runs) -> Runs:
    """The same positions with adjacent runs joined, for fewer rectangles."""
    joined: Runs = []
    for start, stop in runs:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
