"""Computed values: numbers that no draw takes part in, as a plan holds them, each only once.

The dimensions along which elements are the same ones again are found here, for draws too.
"""

from __future__ import annotations

import math

import torch

from initclient._laws import MAX_LITERAL, Cell, Folding, NotUnderstoodError, Values, folded
from initclient.torch._record.arithmetic import value
from initclient.torch._trace import Evaluation, Expression

# Elements of a computed tensor that are looked for repetition.
_LARGE = 1 << 26

# Integers up to here are doubles.
_MOST_EXACT = 1 << 53


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
