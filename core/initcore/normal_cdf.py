"""The normal distribution function as a correctly rounded 32-bit integer.

It is the one transcendental between a plan and its parameters, so it is computed in
decimal arithmetic, which has the same digits on every platform; libm's erf has not.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import lru_cache

# Beyond 7 standard deviations the tail holds less than half of 2^-32.
_SATURATED = 7.0

# Enough digits for the alternating terms below: they grow to exp(7^2 / 2), 11 digits,
# and an undecidable rounding at 32 bits would need 10 + 60 digits to agree with a tie.
_CONTEXT = Context(prec=90, Emin=-9999, Emax=9999)
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
    with localcontext(_CONTEXT):
        exact = Decimal(x)
        square = exact * exact
        power, total, k = exact, exact, 0
        while abs(power) > Decimal("1e-80"):
            k += 1
            power = -power * square / (2 * k)
            total += power / (2 * k + 1)
        half = Decimal(2) ** 31
        return int((half + total / _SQRT_2_PI * (1 << 32)).to_integral_value())
