"""Rectangular regions of a plan's tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from initcore import Layout

Bounds: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Region:
    """A rectangular part of a plan's tensor.

    Attributes:
        name: the tensor's name.
        bounds: (start, stop) in each dimension.
    """

    name: str
    bounds: Bounds

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(stop - start for start, stop in self.bounds)

    def halves(self) -> tuple[Region, Region]:
        """Its two halves along its first dimension of more than one element."""
        axis = next(i for i, (start, stop) in enumerate(self.bounds) if stop - start > 1)
        start, stop = self.bounds[axis]
        middle = (start + stop) // 2
        first, second = (
            Region(self.name, (*self.bounds[:axis], cut, *self.bounds[axis + 1 :]))
            for cut in ((start, middle), (middle, stop))
        )
        return first, second


def wanted_regions(layout: Layout) -> list[Region]:
    """The wanted region of each tensor of a plan, in its order."""
    return [Region(entry.tensor.name, entry.tensor.bounds) for entry in layout.entries]
