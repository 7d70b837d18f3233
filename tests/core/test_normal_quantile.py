"""z(w): exactly odd, within 4 ulp of the inverse normal CDF, with the moments of a normal.

`make exhaustive` checks all 2^32 words; here is a stratified part of them.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Context, Inexact, Rounded, localcontext

import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from initcore.stream.normal_cdf import scaled_normal_cdf
from initcore.stream.quantile import TAIL, normal_quantile


def stratified() -> np.ndarray:
    """A word of each 2^10, the first and last 2^16, and 2^16 around every edge of a formula."""
    rng = np.random.default_rng(0)
    spread = (np.arange(2**22, dtype=np.uint64) << 10) + rng.integers(0, 2**10, 2**22, np.uint64)
    edges = [0, int(TAIL), 2**31, 2**32 - int(TAIL), 2**32]
    # The tail's logarithm changes its exponent at sqrt(1/2) * 2^k.
    edges += [int(2**k * 2**0.5 / 4) for k in range(3, 29)]
    around = [np.arange(max(0, e - 2**15), min(2**32, e + 2**15), dtype=np.uint64) for e in edges]
    return np.concatenate([spread, *around]).astype(np.uint32)


def test_z_is_odd() -> None:
    words = stratified()
    assert np.array_equal(normal_quantile(~words), -normal_quantile(words))


def test_z_is_within_four_ulp_and_half_an_ulp_on_average() -> None:
    words = stratified()
    exact = scipy.special.ndtri((words.astype(np.float64) + 0.5) / 2**32)
    # 1 - u has no digits left near u = 1; by oddness the lower half says everything.
    lower = words < 2**31
    error = np.abs(normal_quantile(words)[lower] - exact[lower])
    ulp = np.spacing(np.abs(exact[lower]).astype(np.float32)).astype(np.float64)
    assert (error / ulp).max() < 4
    assert (error / ulp)[: 2**21].mean() < 0.5


def test_z_has_the_moments_of_a_normal() -> None:
    words = (np.arange(2**22, dtype=np.uint64) << 10) + 2**9
    z = normal_quantile(words.astype(np.uint32)).astype(np.float64)
    assert abs((z**2).mean() - 1) < 2e-6  # the extreme tails are not among these words
    assert abs((z**4).mean() - 3) < 1e-3


def test_z_at_known_words() -> None:
    words = np.array([0, 2**31 - 1, 2**31, 2**32 - 1, 0x12345678], dtype=np.uint32)
    assert [float(v).hex() for v in normal_quantile(words)] == [
        "-0x1.95a11a0000000p+2",
        "-0x1.40d9320000000p-32",
        "0x1.40d9320000000p-32",
        "0x1.95a11a0000000p+2",
        "-0x1.77b2640000000p+0",
    ]


@given(st.floats(-8, 8))
def test_the_scaled_cdf_is_correctly_rounded(x: float) -> None:
    with mpmath.workprec(400):
        exact = mpmath.ncdf(mpmath.mpf(x)) * 2**32
        assert abs(exact - scaled_normal_cdf(x)) <= 0.5
    assert scaled_normal_cdf(-x) == 2**32 - scaled_normal_cdf(x)


def test_the_scaled_cdf_at_its_ends() -> None:
    assert scaled_normal_cdf(0.0) == 2**31
    assert scaled_normal_cdf(-1e300) == 0
    assert scaled_normal_cdf(1e300) == 2**32
    assert scaled_normal_cdf(-6.9) == 0
    assert scaled_normal_cdf(-6.0) == 4
    assert scaled_normal_cdf(5e-324) == 2**31


@pytest.mark.parametrize(
    "context",
    [
        Context(rounding=ROUND_DOWN),
        Context(rounding=ROUND_UP),
        Context(prec=6),
        Context(traps=[Inexact, Rounded]),
        Context(Emin=-1, Emax=1),
    ],
    ids=["down", "up", "six digits", "traps", "small exponents"],
)
def test_the_callers_decimal_context_changes_no_bound(context: Context) -> None:
    points = [n / 16 for n in range(-100, 101)]
    expected = [scaled_normal_cdf.__wrapped__(x) for x in points]
    with localcontext(context):
        assert [scaled_normal_cdf.__wrapped__(x) for x in points] == expected
