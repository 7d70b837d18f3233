"""Parts of a tensor, rectangles or single points: which global elements they hold, in which order.

A region is row-major like the file. Positions inside it are called local, positions in
the whole tensor global.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from initcore.stream import Runs

Positions: TypeAlias = NDArray[np.uint64]
"""Row-major positions in a whole tensor."""

# Run starts held at once, at most: 4 MiB, enough work for two threads even if runs are one element
# long.
_STARTS = 1 << 19


class Region:
    """A rectangular part of a tensor.

    Args:
        shape: shape of the whole tensor.
        bounds: (start, stop) for each dimension.
    """

    def __init__(self, shape: Sequence[int], bounds: Sequence[tuple[int, int]]) -> None:
        self.shape = tuple(shape)
        self.bounds = tuple(bounds)
        self.sizes = tuple(stop - start for start, stop in bounds)
        self.count = math.prod(self.sizes)
        self._strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        self._base = sum(start * s for (start, _), s in zip(bounds, self._strides, strict=True))
        # Trailing dimensions taken whole join into one run of consecutive elements.
        axis = len(self.sizes)
        while axis > 0 and self.sizes[axis - 1] == self.shape[axis - 1]:
            axis -= 1
        inner = max(axis - 1, 0)
        self.run = math.prod(self.sizes[inner:])
        self._outer = list(zip(self.sizes[:inner], self._strides[:inner], strict=True))

    def runs(self, first: int, count: int) -> Iterator[tuple[int, Runs]]:
        """The global positions of local elements first .. first + count - 1.

        Yields:
            (offset, runs): offset counts elements from `first`; the runs are of equal
            length and follow each other in order.
        """
        done = 0
        while done < count:
            row, inside = divmod(first + done, self.run)
            left = count - done
            if inside or left < self.run:
                length, rows = min(left, self.run - inside), 1
            else:
                length, rows = self.run, min(left // self.run, _STARTS)
            yield done, Runs(self._starts(row, rows, inside), length)
            done += rows * length

    def _starts(self, row: int, rows: int, inside: int) -> NDArray[np.uint64]:
        """The global index of element `inside` of each run, by the run's number."""
        first = self._base + inside
        if not self._outer:
            return np.array((first,), dtype=np.uint64)
        if len(self._outer) == 1:
            # A column needs no divisions, which would take longer than drawing.
            stride = self._outer[0][1]
            first += row * stride
            return np.arange(first, first + rows * stride, stride, dtype=np.uint64)
        rest: NDArray[Any] = np.arange(row, row + rows, dtype=np.uint64)
        starts = np.full(rows, first, dtype=np.uint64)
        for size, stride in reversed(self._outer):
            rest, place = np.divmod(rest, np.uint64(size))
            starts += place * np.uint64(stride)
        return starts

    def to_global(self, local: int) -> int:
        """The global index of one local element."""
        index = self._base
        for size, stride in zip(reversed(self.sizes), reversed(self._strides), strict=True):
            local, place = divmod(local, size)
            index += place * stride
        return index

    def to_local(self, index: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Which of these global elements lie inside, and the local positions of those.

        Returns:
            A mask over `index`, and the local positions of the elements it keeps.
        """
        rest: NDArray[Any] = index
        inside = np.ones(len(index), dtype=np.bool_)
        local: NDArray[Any] = np.zeros(len(index), dtype=np.uint64)
        for (start, stop), stride in zip(self.bounds, self._strides, strict=True):
            place, rest = np.divmod(rest, np.uint64(max(stride, 1)))
            inside &= (place >= np.uint64(start)) & (place < np.uint64(stop))
            local = local * np.uint64(stop - start) + (place - np.uint64(start))
        return inside, local[inside]

    def clear_rows(self, rows: Sequence[int], first: int, out: NDArray[Any]) -> None:
        """Sets the elements of some rows to zero.

        Args:
            rows: positions in the whole tensor's first dimension, ascending.
            first: local position of out's first element.
            out: local elements first .. first + len(out) - 1.
        """
        start, stop = self.bounds[0]
        size = math.prod(self.sizes[1:])
        for row in rows[bisect_left(rows, start) : bisect_left(rows, stop)]:
            begin = (row - start) * size - first
            out[max(begin, 0) : max(begin + size, 0)] = 0


region_of = lru_cache(maxsize=1024)(Region)
"""`Region`, which does not change, made once for tensors of the same sizes."""


@dataclass(frozen=True)
class Points:
    """Single elements of a tensor, with the methods that a filler needs of a `Region`.

    Attributes:
        shape: shape of the whole tensor.
        positions: the elements' global positions, ascending. Local positions number them.
    """

    shape: tuple[int, ...]
    positions: Positions

    def runs(self, first: int, count: int) -> Iterator[tuple[int, Runs]]:
        """Like `Region.runs`: each position is a run of its own."""
        if count:
            yield 0, Runs(self.positions[first : first + count], 1)

    def clear_rows(self, rows: Sequence[int], first: int, out: NDArray[Any]) -> None:
        """Like `Region.clear_rows`."""
        row = self.positions[first : first + len(out)] // np.uint64(math.prod(self.shape[1:]))
        out[np.isin(row, np.array(rows, dtype=np.uint64))] = 0
