"""Elementary functions of doubles, of additions, multiplications, divisions and roots alone.

Those of libm differ between platforms in the last bits. These are the same everywhere, since each
step is one IEEE operation in the order that docs/stream-v1.md, section 15, gives. Their error is
a few units in the last place of a double, far below the rounding to float32 that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]

_LOG2E = float.fromhex("0x1.71547652b82fep+0")
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
# log(2) in two parts: the first ends in zeros, so that its products with exponents are exact.
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")


def _reciprocal_factorials() -> list[float]:
    """1 / n! for n = 2 .. 16, each rounded once: n! is exact."""
    found, factorial = [], 1.0
    for n in range(2, 17):
        factorial *= n
        found.append(1.0 / factorial)
    return found


_EXP_TERMS = _reciprocal_factorials()
_LOG_TERMS = [1.0 / (2 * k + 1) for k in range(1, 13)]


def exp(x: Doubles) -> Doubles:
    """e^x; 0 or infinity beyond the range of a double."""
    # Beyond these the result is 0 or infinite, and the exponent below would not fit its field.
    x = np.minimum(np.maximum(x, -800.0), 800.0)
    k = np.floor(x * _LOG2E + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    # 2^k in two factors, since 2^k alone may be beyond the range of a double.
    half = np.floor(k * 0.5)
    with np.errstate(over="ignore", under="ignore"):
        result: Doubles = (1.0 + (r + r * r * _exp_tail(r))) * _power(half) * _power(k - half)
    return result


def expm1(x: Doubles) -> Doubles:
    """e^x - 1, exact near zero too."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.where(np.abs(x) < 0.5, x + x * x * _exp_tail(x), exp(x) - 1.0)


def log(x: Doubles) -> Doubles:
    """The natural logarithm of a positive number."""
    m, e = np.frexp(x)
    low = m < _SQRT_HALF
    m = np.where(low, m + m, m)
    exponent = e - low.astype(np.float64)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    tail = np.full_like(z, _LOG_TERMS[-1])
    for term in reversed(_LOG_TERMS[:-1]):
        tail = tail * z + term
    s = s + s
    with np.errstate(under="ignore"):
        result: Doubles = exponent * _LN2_HIGH + ((s + s * (z * tail)) + exponent * _LN2_LOW)
    return result


def log1p(x: Doubles) -> Doubles:
    """log(1 + x) of a number above -1, exact near zero too."""
    u = 1.0 + x
    with np.errstate(under="ignore"):
        return np.where(u == 1.0, x, log(u) + (x - (u - 1.0)) / u)


def softplus(x: Doubles) -> Doubles:
    """log(1 + e^x)."""
    return np.maximum(x, 0.0) + log1p(exp(-np.abs(x)))


def inverse_softplus(y: Doubles) -> Doubles:
    """The number whose softplus is y, which is positive: y + log(1 - e^-y)."""
    return y + log(-expm1(-y))


def square(x: Doubles) -> Doubles:
    """x * x."""
    with np.errstate(under="ignore"):
        return x * x


def reciprocal(x: Doubles) -> Doubles:
    """1 / x of a number other than zero."""
    with np.errstate(under="ignore"):
        return np.divide(1.0, x)


FUNCTIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sqrt": np.sqrt,
    "square": square,
    "reciprocal": reciprocal,
    "abs": np.abs,
    "softplus": softplus,
    "inverse_softplus": inverse_softplus,
}
"""The functions without a number; `apply_function` has the others too."""


def apply_function(name: str, x: Doubles, a: float | None, b: float | None) -> Doubles:
    """A function of each element, by its name in `initcore.plan.schemes.FUNCTIONS`.

    Args:
        name: the function.
        x: elements in its domain.
        a: the number of "add" and "multiply"; the lower bound of "clamp", None for none.
        b: the upper bound of "clamp", None for none.
    """
    if name == "add":
        assert a is not None
        return x + a
    if name == "multiply":
        assert a is not None
        with np.errstate(under="ignore"):
            return x * a
    if name == "clamp":
        # Not minimum and maximum, which may return either of two zeros of opposite sign.
        x = x if a is None else np.where(x < a, a, x)
        return x if b is None else np.where(x > b, b, x)
    return FUNCTIONS[name](x)


class Step(NamedTuple):
    """A function with its numbers, as `apply_function` takes them."""

    function: str
    a: float | None = None
    b: float | None = None


def apply_steps(steps: Iterable[Step], x: Doubles) -> Doubles:
    """Functions of each element, one after the other, the innermost first."""
    for step in steps:
        x = apply_function(step.function, x, step.a, step.b)
    return x


def sum_of_squares(rows: Doubles, total: Doubles | None = None) -> Doubles:
    """The sum of squares of each row, in the order of docs/stream-v1.md, section 15.

    Groups of 2^16 elements are added up by halves, and the groups' sums one after the other.

    Args:
        rows: array of shape (rows, elements).
        total: the sums over the elements before these, which are a multiple of 2^16.
    """
    total = np.zeros(len(rows)) if total is None else total
    for start in range(0, rows.shape[1], _GROUP):
        group = square(rows[:, start : start + _GROUP])
        # Zeros up to 2^16 elements would change nothing, so a power of two is enough.
        width = 1 << max(group.shape[1] - 1, 0).bit_length()
        group = np.pad(group, ((0, 0), (0, width - group.shape[1])))
        while group.shape[1] > 1:
            half = group.shape[1] // 2
            group = group[:, :half] + group[:, half:]
        total = total + group[:, 0]
    return total


_GROUP = 1 << 16


def _exp_tail(r: Doubles) -> Doubles:
    """1/2! + r/3! + ... + r^14/16!."""
    tail = np.full_like(r, _EXP_TERMS[-1])
    for term in reversed(_EXP_TERMS[:-1]):
        tail = tail * r + term
    return tail


def _power(k: Doubles) -> Doubles:
    """2^k for integers within the exponents of normal doubles, from its bits."""
    return ((k.astype(np.int64) + 1023) << 52).view(np.float64)
