"""From the parameters of a distribution to a draw; values beyond an element type are refused.

Every random scheme uses one of these functions. Arithmetic is IEEE double, rounded to
float32 once, at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from initcore.dtypes import DType
from initcore.plan import Check
from initcore.resolve.contents import Content, Sampled
from initcore.stream import (
    NormalDraw,
    TruncNormalDraw,
    UniformDraw,
    fits,
    scaled_normal_cdf,
    to_float32,
)

LARGEST_Z = 6.35
"""An upper bound of |z| over all words: z(0xffffffff) = 6.338."""

MIN_TRUNC_WIDTH = 2**16
"""Least number of 2^-32 quantiles between the bounds of a truncated normal."""


@dataclass(frozen=True)
class Parameters:
    """Fans, moments and bounds that follow from a scheme's arguments and the shape, to be shown.

    Attributes:
        fan_in: inputs of one output, where the scheme has fans.
        fan_out: outputs of one input.
        mean: mean of the distribution.
        std: its standard deviation; before truncation, where there is one.
        low: lower bound of the values, where there is one.
        high: upper bound.
    """

    fan_in: float | None = None
    fan_out: float | None = None
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None


Formula: TypeAlias = tuple[Content, Parameters, tuple[str, ...]]
"""A tensor's content, its parameters, and warnings."""


def uniform_on(check: Check, dtype: DType, a: float, b: float, **fan: float) -> Formula | None:
    """Uniform on [a, b); refused with torch's message if a > b."""
    if a > b:
        check.fail(
            "a",
            f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}",
        )
        return None
    check_range(check, "a", a, f"the bound {a}", "F32", dtype.name)
    check_range(check, "b", b, f"the bound {b}", "F32", dtype.name)
    if check.failed:
        return None
    low, top = to_float32(a), to_float32(b)
    with np.errstate(under="ignore"):
        below = float(np.nextafter(np.float32(top), np.float32(-np.inf)))
    draw = UniformDraw(
        mid=to_float32((a + b) / 2),
        half=to_float32((b - a) / 2),
        low=low,
        # Bounds that are equal in float32 leave a single value, the lower bound.
        high=max(below, low),
    )
    std = (b - a) / math.sqrt(12.0)
    return Sampled(draw), Parameters(mean=(a + b) / 2, std=std, low=a, high=b, **fan), ()


def normal_with(
    check: Check, dtype: DType, mean: float, std: float, **fan: float
) -> Formula | None:
    """Normal with this mean and standard deviation."""
    if std < 0.0:
        check.fail("std", f"normal expects std >= 0.0, but found std {std}")
        return None
    largest = abs(mean) + LARGEST_Z * std
    check_range(check, "std", largest, f"a value of mean {mean}, std {std}", "F32", dtype.name)
    draw = NormalDraw(to_float32(mean), to_float32(std))
    return Sampled(draw), Parameters(mean=mean, std=std, **fan), ()


def normal_within_sigmas(
    check: Check, dtype: DType, mean: float, std: float, low: float, high: float, **fan: float
) -> Formula | None:
    """Normal(mean, std) truncated at low and high, in standard deviations from the mean."""
    a, b = mean + low * std, mean + high * std
    return normal_within(check, dtype, mean, std, (low, high), (a, b), **fan)


def normal_within(
    check: Check,
    dtype: DType,
    mean: float,
    std: float,
    sigmas: tuple[float, float],
    bounds: tuple[float, float],
    **fan: float,
) -> Formula | None:
    """Normal(mean, std) truncated to bounds; sigmas are the same bounds, standardized."""
    a, b = bounds
    check_range(check, "mean", mean, f"the mean {mean}", "F32")
    check_range(check, "std", std, f"the standard deviation {std}", "F32")
    check_range(check, "a", a, f"the bound {a}", "F32")
    check_range(check, "b", b, f"the bound {b}", "F32")
    if check.failed:
        return None
    first, last = scaled_normal_cdf(sigmas[0]), scaled_normal_cdf(sigmas[1])
    if last - first < MIN_TRUNC_WIDTH:
        check.fail(
            "a",
            f"[{a}, {b}] holds {(last - first) / 2**32:.3g} of normal(mean={mean}, std={std}); "
            "at least 2^-16 is needed: widen the interval or move the mean into it",
        )
        return None
    edge = LARGEST_Z * std
    largest = max(abs(max(a, mean - edge)), abs(min(b, mean + edge)))
    what = f"a value of mean {mean}, std {std} within [{a}, {b}]"
    check_range(check, "std", largest, what, "F32", dtype.name)
    draw = TruncNormalDraw(
        first=first,
        width=last - first,
        mean=to_float32(mean),
        std=to_float32(std),
        low=to_float32(a),
        high=to_float32(b),
    )
    return Sampled(draw), Parameters(mean=mean, std=std, low=a, high=b, **fan), ()


def check_range(check: Check, field: str, value: float, what: str, *dtypes: str) -> None:
    """Refuses a value that one of these element types cannot hold, once rounded."""
    for dtype in dtypes:
        if not math.isfinite(value) or not fits(value, dtype):
            check.fail(field, f"{what} is beyond the largest finite value of {dtype}")
            return
