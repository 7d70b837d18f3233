"""Rounding numbers and float32 samples to element types: to nearest, ties to even, once."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from initcore.dtypes import DTYPES, DType


def to_float32(value: float) -> float:
    """The float32 nearest to a double, as a double, with -0 as 0. The caller has checked the range.

    A parameter of -0 could make a sample and a bound zeros of opposite sign, and which of the two
    min and max return is not the same everywhere. Without it no sample is ever -0.
    """
    with np.errstate(over="ignore"):
        return float(np.float32(value)) + 0.0


def round_scalar(value: float, dtype: str) -> float:
    """The value of a floating element type nearest to a double; infinite if it overflows.

    One rounding: casts by way of float32, as NumPy extensions do, would make two.
    """
    if value == 0.0 or dtype == "F64":
        return value
    info = ml_dtypes.finfo(DTYPES[dtype].numpy)  # type: ignore[no-untyped-call]
    exponent = max(math.frexp(value)[1] - 1, int(info.minexp))
    quantum = math.ldexp(1.0, exponent - int(info.nmant))
    # The quotient is exact: quantum is a power of two. round() goes to even.
    rounded = math.copysign(round(value / quantum) * quantum, value)
    return rounded if abs(rounded) <= DTYPES[dtype].max else math.copysign(math.inf, value)


def fits(value: float, dtype: str) -> bool:
    """Whether a finite double is, once rounded, a finite value of an element type."""
    kind: DType = DTYPES[dtype]
    if kind.kind == "float":
        return math.isfinite(round_scalar(value, dtype))
    return kind.min <= value <= kind.max


def encode_scalar(value: float, dtype: str) -> bytes:
    """The little-endian bytes of a number in an element type that `fits` it."""
    kind = DTYPES[dtype]
    number: Any = round_scalar(value, dtype) if kind.kind == "float" else int(value)
    return np.array(number).astype(kind.numpy).astype(kind.numpy.newbyteorder("<")).tobytes()


def encode_doubles(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Doubles in a floating element type's storage: rounded once, to nearest, ties to even.

    Returns:
        A new array of `DTYPES[dtype].storage`, of the same shape.
    """
    kind = DTYPES[dtype]
    with np.errstate(under="ignore", over="ignore"):
        if dtype not in ("F64", "F32", "F16"):
            # ml_dtypes rounds by way of float32, which would round twice. Rounded to odd first,
            # the second rounding is as if it were the only one.
            nearest = values.astype(np.float32)
            beyond = np.abs(nearest.astype(np.float64)) > np.abs(values)
            toward = np.where(beyond, np.nextafter(nearest, np.float32(0)), nearest)
            inexact = toward.astype(np.float64) != values
            values = (toward.view(np.uint32) | inexact).view(np.float32)
        return values.astype(kind.numpy).view(kind.storage)


def encode_samples(samples: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """float32 samples in an element type's storage: rounded once, or widened for F64.

    Returns:
        A new array of `DTYPES[dtype].storage`, of the same shape.
    """
    kind = DTYPES[dtype]
    with np.errstate(under="ignore"):
        return samples.astype(kind.numpy).view(kind.storage)
