"""Computed values: numbers that no draw takes part in, as a plan holds them, each only once.

The dimensions along which elements are the same ones again are found here, for draws too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from initclient.torch._record.arithmetic import value
from initclient.torch._record.cells import Cell, NotUnderstoodError
from initclient.torch._trace import Evaluation, Expression, Values

# Elements of a computed tensor that are looked for repetition.
_LARGE = 1 << 26

# Integers up to here are doubles.
_MOST_EXACT = 1 << 53

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


def literal(expression: Expression, values: Evaluation) -> tuple[Cell, Folding]:
    """The values of an expression without draws as numbers, of which none is repeated in vain.

    Raises:
        NotUnderstoodError: if it has none that a plan could hold, or too many.
    """
    if math.prod(expression.shape) > _LARGE:
        raise NotUnderstoodError("it is computed, and too large to look at", expression)
    found = value(expression, values)
    numbers = exact_values(found, expression)
    bits = numbers.view(torch.int64) if numbers.is_floating_point() else numbers
    folding, part = folded(bits.numpy(), within_axes=False)
    if part.size > MAX_LITERAL:
        folding, part = folded(bits.numpy(), within_axes=True)
    if part.size > MAX_LITERAL:
        reason = (
            f"its values are computed, {part.size:,} numbers; a plan holds at most "
            f"{MAX_LITERAL:,} of a tensor"
        )
        raise NotUnderstoodError(reason, expression)
    kept = torch.from_numpy(part.flatten()).view(numbers.dtype)
    if not bool(kept.isfinite().all()):
        raise NotUnderstoodError("its values are computed, and not all finite", expression)
    if not numbers.is_floating_point() and bool((kept.abs() > _MOST_EXACT).any()):
        raise NotUnderstoodError("its values are integers that no double holds", expression)
    sources = () if expression.source is None else (expression.source,)
    return Cell(Values(tuple(kept.tolist())), sources=sources), folding


def exact_values(found: torch.Tensor, expression: Expression) -> torch.Tensor:
    """Values as doubles, or as integers of 64 bits."""
    if found.is_complex():
        raise NotUnderstoodError("its values are complex numbers", expression)
    kind = torch.float64 if found.is_floating_point() else torch.int64
    return found.to(kind).contiguous()


def kinds_of(bits: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The different values among integers, ascending, and which of them each element is.

    None if there are more than `most`. A sample finds them without sorting all elements.
    """
    flat = bits.flatten()
    kinds = torch.unique(flat[:: max(1, flat.numel() >> 16)])
    if kinds.numel() <= most:
        labels = torch.searchsorted(kinds, flat).clamp_(max=kinds.numel() - 1)
        if torch.equal(kinds[labels], flat):
            return kinds, labels.reshape(bits.shape)
        kinds, labels = torch.unique(flat, return_inverse=True)
        if kinds.numel() <= most:
            return kinds, labels.reshape(bits.shape)
    return None


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
