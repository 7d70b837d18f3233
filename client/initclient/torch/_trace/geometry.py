"""Geometries: which elements of a storage a strided tensor views, without any memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from initclient._laws import Bounds


class Geometry(NamedTuple):
    """A view of a storage, in elements.

    Attributes:
        shape: sizes.
        strides: distances between neighbours.
        offset: position of the first element.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """One more than the last position that it views."""
        if self.size == 0:
            return self.offset
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + 1 + sum((size - 1) * stride for size, stride in steps)

    @property
    def is_dense(self) -> bool:
        """Whether it views each position from its first to its last exactly once."""
        return self.end - self.offset == self.size and self.is_injective

    @property
    def is_injective(self) -> bool:
        """Whether no position is viewed twice."""
        reach = 0
        pairs = sorted(zip(self.strides, self.shape, strict=True))
        for stride, size in ((stride, size) for stride, size in pairs if size > 1):
            if stride <= reach:
                return False
            reach += (size - 1) * stride
        return True

    def covers(self, other: Geometry) -> bool:
        """Whether it surely views every position that another one views."""
        return self == other or (
            self.is_dense and self.offset <= other.offset and other.end <= self.end
        )

    def on(self, flat: torch.Tensor) -> torch.Tensor:
        """The view of a flat tensor."""
        return torch.as_strided(flat, self.shape, self.strides, self.offset)

    def bounds_in(self, base: Geometry) -> Bounds | None:
        """The rectangle of `base` whose elements it views, in any order; None if it is none."""
        if self.size == 0 or not self.is_injective or not base.is_injective:
            return None
        first = base._coordinates(self.offset)
        last = base._coordinates(self.end - 1)
        if first is None or last is None:
            return None
        bounds = tuple((low, high + 1) for low, high in zip(first, last, strict=True))
        if any(low >= high for low, high in bounds):
            return None
        if math.prod(high - low for low, high in bounds) != self.size:
            return None
        return bounds if self._steps_like(base, bounds) else None

    def _coordinates(self, position: int) -> tuple[int, ...] | None:
        """Where in this view a position of the storage is; None if it is not there."""
        left = position - self.offset
        found = [0] * len(self.shape)
        order = sorted(range(len(self.shape)), key=lambda i: -self.strides[i])
        for axis in order:
            if self.shape[axis] > 1 and self.strides[axis]:
                found[axis], left = divmod(left, self.strides[axis])
                if not 0 <= found[axis] < self.shape[axis]:
                    return None
        return tuple(found) if left == 0 else None

    def _steps_like(self, base: Geometry, bounds: Bounds) -> bool:
        """Whether it views the very positions of a rectangle of `base` of as many elements."""
        sizes = [high - low for low, high in bounds]
        inner = Geometry(tuple(sizes), base.strides, self.offset)
        return inner._runs() == self._runs()

    def _runs(self) -> list[tuple[int, int]]:
        """(stride, size) of the axes, the smallest stride first, adjacent axes joined."""
        runs: list[tuple[int, int]] = []
        pairs = sorted(zip(self.strides, self.shape, strict=True))
        for stride, size in ((stride, size) for stride, size in pairs if size > 1):
            if runs and runs[-1][0] * runs[-1][1] == stride:
                runs[-1] = (runs[-1][0], runs[-1][1] * size)
            else:
                runs.append((stride, size))
        return runs


def geometry_of(tensor: torch.Tensor) -> Geometry:
    """The view that a tensor is of its storage."""
    return Geometry(tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))


def contiguous(shape: tuple[int, ...]) -> Geometry:
    """The view of a whole storage, row by row."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return Geometry(shape, tuple(reversed(strides)), 0)
