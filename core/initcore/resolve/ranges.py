"""The range of a tensor's values, before any of them exists.

`apply` and `norm` compute with values of other tensors. A plan in which such a value could be
outside the domain of its function, or too large for its element type, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from initcore.dtypes import DTYPES
from initcore.plan import Check
from initcore.resolve.contents import (
    Applied,
    Composed,
    Content,
    DeltaOrthogonal,
    Norm,
    Orthogonal,
    Pretrained,
    Sampled,
    Sparse,
)
from initcore.resolve.distributions import LARGEST_Z, Parameters, check_range
from initcore.stream import (
    NormalDraw,
    TruncNormalDraw,
    UniformDraw,
    apply_function,
    round_scalar,
)

Range: TypeAlias = tuple[float, float]
"""The least and the greatest value that an element can have."""

# Rounding moves a value of an orthogonal matrix or a sum of squares by less than this share.
_ROUNDING = 2.0**-20

# The t of a uniform draw for the least and the greatest word: an odd multiple of 2^-24, so that
# samples often reach neither bound. They are monotone in t, so none lies farther out.
_OUTERMOST_T = np.array([2.0**-24 - 1.0, 1.0 - 2.0**-24], dtype=np.float32)

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
    dtype: str,
) -> Range | None:
    """The range of a tensor's values; None if the plan does not say, as for a checkpoint.

    Args:
        content: what the elements are made from.
        parameters: bounds, where the content has none.
        parts: the ranges of its parts, as far as they have elements.
        has_zero_rows: whether some rows are zero whatever the content.
        row: elements of the part for one of a norm.
        dtype: the element type, to which the values are rounded.
    """
    found = _range(content, parameters, parts, row)
    if found is None:
        return None
    low, high = (_rounded(value, dtype) for value in found)
    return (min(low, 0.0), max(high, 0.0)) if has_zero_rows else (low, high)


def _rounded(value: float, dtype: str) -> float:
    """A value in the element type; itself if it is too large for it, which `check_image` finds."""
    if DTYPES[dtype].kind != "float" or not math.isfinite(value):
        return value
    rounded = round_scalar(value, dtype)
    return rounded if math.isfinite(rounded) else value


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
        if not known:
            # The norm of a part without elements.
            return 0.0, 0.0
        low, high = min(low for low, _ in known), max(high for _, high in known)
        if isinstance(content, Composed):
            return low, high
        if isinstance(content, Norm):
            largest = max(abs(low), abs(high))
            # As the elements are made: the sum of squares must not be infinite.
            return 0.0, math.sqrt(row * (largest * largest) * (1.0 + _ROUNDING))
        return _image(content, (low, high))
    if parameters.low is None or parameters.high is None:
        # A tensor without elements.
        return 0.0, 0.0
    if isinstance(content, Orthogonal | DeltaOrthogonal):
        return parameters.low * (1.0 + _ROUNDING), parameters.high * (1.0 + _ROUNDING)
    return parameters.low, parameters.high


def _of_draw(draw: UniformDraw | NormalDraw | TruncNormalDraw) -> Range:
    if isinstance(draw, UniformDraw):
        with np.errstate(under="ignore"):
            ends = np.float32(draw.mid) + np.float32(draw.half) * _OUTERMOST_T
        low, high = (min(max(end, draw.low), draw.high) for end in ends.tolist())
        return low, high
    edge = LARGEST_Z * draw.std
    # The product and the sum are rounded to float32.
    edge += (edge + abs(draw.mean)) * 2.0**-23
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
    for value in dict.fromkeys(values):
        check_range(check, field, value, f"the value {value:g} that {scheme} can give", dtype)
