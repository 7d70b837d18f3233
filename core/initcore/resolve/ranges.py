"""The range of a tensor's values, before any of them exists.

`apply` and `norm` compute with values of other tensors. A plan in which such a value could be
outside the domain of its function, or too large for its element type, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from initcore.plan import Check
from initcore.resolve.contents import Applied, Composed, Content, Norm, Pretrained, Sampled, Sparse
from initcore.resolve.distributions import LARGEST_Z, Parameters, check_range
from initcore.stream import NormalDraw, TruncNormalDraw, UniformDraw, apply_function

Range: TypeAlias = tuple[float, float]
"""The least and the greatest value that an element can have."""

# Rounding moves a value of an orthogonal matrix or a sum of squares by less than this share.
_ROUNDING = 1.0 + 2.0**-20

# The domains of functions, as what their argument must be, and whether the least value is inside.
_DOMAINS: dict[str, tuple[float, bool]] = {
    "log": (0.0, False),
    "log1p": (-1.0, False),
    "sqrt": (0.0, True),
    "inverse_softplus": (0.0, False),
}


def range_of(
    content: Content,
    parameters: Parameters,
    parts: Sequence[Range | None],
    has_zero_rows: bool,
    row: int,
) -> Range | None:
    """The range of a tensor's values; None if the plan does not say, as for a checkpoint.

    Args:
        content: what the elements are made from.
        parameters: bounds, where the content has none.
        parts: the ranges of its parts.
        has_zero_rows: whether some rows are zero whatever the content.
        row: elements of the part for one of a norm.
    """
    found = _range(content, parameters, parts, row)
    if found is None or not has_zero_rows:
        return found
    return min(found[0], 0.0), max(found[1], 0.0)


def _range(
    content: Content, parameters: Parameters, parts: Sequence[Range | None], row: int
) -> Range | None:
    if isinstance(content, Sampled):
        return _of_draw(content.draw)
    if isinstance(content, Sparse):
        low, high = _of_draw(content.draw)
        return min(low, 0.0), max(high, 0.0)
    if isinstance(content, Pretrained):
        return None
    if isinstance(content, Composed | Applied | Norm):
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        low, high = min(low for low, _ in known), max(high for _, high in known)
        if isinstance(content, Composed):
            return low, high
        if isinstance(content, Norm):
            return 0.0, math.sqrt(row) * max(abs(low), abs(high)) * _ROUNDING
        return _image(content, (low, high))
    if parameters.low is None or parameters.high is None:
        # A tensor without elements.
        return 0.0, 0.0
    return parameters.low * _ROUNDING, parameters.high * _ROUNDING


def _of_draw(draw: UniformDraw | NormalDraw | TruncNormalDraw) -> Range:
    if isinstance(draw, UniformDraw):
        return draw.low, draw.high
    edge = LARGEST_Z * draw.std
    low, high = draw.mean - edge, draw.mean + edge
    if isinstance(draw, TruncNormalDraw):
        return max(low, draw.low), min(high, draw.high)
    return low, high


def _image(content: Applied, values: Range) -> Range:
    """The range of a function over a range inside its domain: all are monotone, or even."""
    low, high = values
    ends = np.array(values)
    if content.function in ("square", "abs"):
        least = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
        ends = np.array([least, max(abs(low), abs(high))])
    with np.errstate(over="ignore"):
        found = apply_function(content.function, ends, content.a, content.b)
    return float(found.min()), float(found.max())


def check_domain(check: Check, function: str, values: Range | None, name: str) -> None:
    """Refuses values outside the domain of a function.

    Args:
        check: takes the violation.
        function: its name.
        values: the range of the part; None if it is not known.
        name: the part's name.
    """
    if values is None:
        text = f"has {name!r}, whose values are in a checkpoint"
        check.fail("parts", f"{text}; apply needs values that the plan bounds")
        return
    low, high = values
    if function == "reciprocal" and low <= 0.0 <= high:
        check.fail(
            "function",
            f"is reciprocal, but {name!r} can be zero: its values lie within [{low:g}, {high:g}]",
        )
    edge = _DOMAINS.get(function)
    if edge is None:
        return
    bound, inside = edge
    if low < bound or (low == bound and not inside):
        relation = "at least" if inside else "above"
        check.fail(
            "function",
            f"is {function}, which takes values {relation} {bound:g}, but those of {name!r} go "
            f"down to {low:g}; put clamp before it, or raise the lower bound of {name!r}",
        )


def check_image(check: Check, scheme: str, values: Range | None, dtype: str) -> None:
    """Refuses values that are too large for the element type.

    Args:
        check: takes the violation.
        scheme: the tensor's scheme.
        values: the range of the tensor; None if it is not known.
        dtype: its element type.
    """
    if values is None:
        check.fail("parts", f"are in a checkpoint; {scheme} needs values that the plan bounds")
        return
    field = "function" if scheme == "apply" else "parts"
    for value in values:
        check_range(check, field, value, f"the value {value:g} that {scheme} can give", dtype)
