"""The normal distribution function as a correctly rounded 32-bit integer.

It is the one transcendental function between a plan and its parameters, so it is computed in
decimal arithmetic, whose digits are the same on every platform; those of libm's erf are not.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache

# Beyond 7 standard deviations the tail holds less than half of 2^-32.
_SATURATED = 7.0

# The alternating terms below grow to exp(7^2 / 2), 11 digits, and the result has 10 digits before
# the point: 45 digits leave about 20 correct ones behind it, 95 leave 70. 45 nearly always suffice.
_FEW, _MANY = 45, 95
_SQRT_2_PI = Decimal(
    "2.50662827463100050241576528481104525300698674060993831662992357634229365460784197494659583837805726611600997"
)


@lru_cache(maxsize=4096)
def scaled_normal_cdf(x: float) -> int:
    """Phi(x) * 2^32 rounded to the nearest integer.

    Args:
        x: any finite double.

    Returns:
        An integer within [0, 2^32], exactly rounded; f(-x) = 2^32 - f(x).

    The series is Phi(x) = 1/2 + sum_k (-1)^k x^(2k+1) / (k! 2^k (2k+1)) / sqrt(2 pi)
    (Abramowitz and Stegun 26.2.10).
    """
    if x <= -_SATURATED:
        return 0
    if x >= _SATURATED:
        return 1 << 32
    # Not the caller's context, whose precision and rounding may be any.
    with localcontext(_context(_MANY)):
        value = _phi(x, _FEW)
        if abs(abs(value % 1) - Decimal("0.5")) < Decimal("1e-15"):
            value = _phi(x, _MANY)
        return int(value.to_integral_value())


def _context(digits: int) -> Context:
    return Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-9999, Emax=9999, traps=[])


def _phi(x: float, digits: int) -> Decimal:
    """Phi(x) * 2^32, with an error of less than 10^(25 - digits)."""
    with localcontext(_context(digits)):
        exact = +Decimal(x)
        square = exact * exact
        power, total, k = exact, exact, 0
        least = Decimal(10) ** (10 - digits)
        while abs(power) > least:
            k += 1
            power = -power * square / (2 * k)
            total += power / (2 * k + 1)
        return Decimal(2) ** 31 + total / _SQRT_2_PI * (1 << 32)
