"""Folding: the dimensions along which elements are the same ones again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_LITERAL = 1 << 16
"""Numbers that a plan holds of one tensor."""


class Folding(NamedTuple):
    """A part, and the dimensions along which it is repeated.

    Attributes:
        whole: the shape of the whole; an axis of which only a part is repeated is split in two.
        part: the shape of the part, which has size 1 where it is repeated.
    """

    whole: tuple[int, ...]
    part: tuple[int, ...]


def folded(elements: NDArray[np.int64], *, within_axes: bool) -> tuple[Folding, NDArray[np.int64]]:
    """The smallest part whose repetition gives the elements, and that part.

    Args:
        elements: a number for each element, equal where the elements are the same.
        within_axes: whether to look for repetition within an axis, too: rows 0, 1, 0, 1 as rows
            0, 1 twice, and rows 0, 0, 1, 1 as each row twice.
    """
    whole: list[int] = []
    part: list[int] = []
    small = elements
    for axis, size in enumerate(elements.shape):
        rows = np.moveaxis(small, axis, 0).reshape(size, -1)
        run = _run(rows)
        period = size
        if run < size and not within_axes:
            run = 1
        elif run == 1 and within_axes:
            period = _period(rows)
        if run == size:
            whole, part, kept = [*whole, size], [*part, 1], slice(0, 1)
        elif run > 1:
            whole, part = [*whole, size // run, run], [*part, size // run, 1]
            kept = slice(0, size, run)
        elif period < size:
            whole, part = [*whole, size // period, period], [*part, 1, period]
            kept = slice(0, period)
        else:
            whole, part, kept = [*whole, size], [*part, size], slice(None)
        small = small[(slice(None),) * axis + (kept,)]
    return Folding(tuple(whole), tuple(part)), np.ascontiguousarray(small).reshape(part)


def _run(rows: NDArray[np.int64]) -> int:
    """The length of the runs of equal neighbours that the rows consist of."""
    changes = np.nonzero((rows[1:] != rows[:-1]).any(axis=1))[0] + 1
    return math.gcd(len(rows), *changes.tolist())


def _period(rows: NDArray[np.int64]) -> int:
    """The number of rows after which they repeat."""
    count = len(rows)
    small = [size for size in range(1, math.isqrt(count) + 1) if count % size == 0]
    for period in (*small, *(count // size for size in reversed(small))):
        # One row says no for most periods, without a look at all of them.
        is_likely = period < count and bool((rows[period] == rows[0]).all())
        if is_likely and (rows[period:] == rows[:-period]).all():
            return period
    return count
