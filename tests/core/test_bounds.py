"""How far samples of bounded schemes may lie outside their bounds, as docs/plans.md says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import initcore
import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, VirtualFile, layout, trunc_normal, uniform
from initcore.backends import load

PAGE = (Path(__file__).parent.parent.parent / "docs" / "plans.md").read_text("utf-8")
HALF_ULP = 2.0**-24
NARROW = {
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
BOUNDS = st.floats(-300.0, 300.0, allow_subnormal=False)


def values(tensor: Tensor) -> Any:
    """The values of a tensor, as float64."""
    laid_out = layout(Plan({"w": tensor}, 7))
    return VirtualFile(laid_out, load("numpy")).array(laid_out.entries[0]).astype(np.float64)


def inside(a: float, b: float) -> tuple[float, float]:
    """The function on the page."""
    source = re.search(r"^def inside\(.*?(?=^```)", PAGE, re.MULTILINE | re.DOTALL)
    assert source is not None
    names: dict[str, Any] = {"np": np, "ic": initcore}
    exec(source[0], names)
    found: tuple[float, float] = names["inside"](a, b)
    return found


def slack(bound: float) -> float:
    return max(HALF_ULP * abs(bound), 2.0**-150)


@settings(max_examples=150, deadline=None)
@given(BOUNDS, st.floats(1e-6, 2.0), st.sampled_from(["F64", "F32"]))
@example(0.7, 0.01, "F64")
@example(0.7, 1e-6, "F64")
def test_uniform_values_lie_in_the_interval_but_for_half_an_ulp(
    a: float, width: float, dtype: str
) -> None:
    b = a + width
    assume(float(np.float32(b)) - float(np.float32(a)) > slack(a) + slack(b))
    found = values(uniform((2000,), a, b, dtype=dtype))
    assert found.min() >= float(np.float32(a)) >= a - slack(a)
    assert found.max() < b
    low, high = inside(a, b)
    assume(low < high)
    kept = values(uniform((2000,), low, high, dtype=dtype))
    assert a <= kept.min()
    assert kept.max() < b


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-2.0, 2.0),
    st.floats(1e-3, 1.0),
    st.floats(0.1, 50.0),
    st.sampled_from(["F64", "F32"]),
)
@example(0.7, 0.01, 1.0, "F64")
def test_truncated_values_lie_in_the_interval_but_for_half_an_ulp(
    a: float, width: float, std: float, dtype: str
) -> None:
    a, b = a * std, (a + width) * std
    found = values(trunc_normal((2000,), 0.0, std, a, b, dtype=dtype))
    assert a - slack(a) <= float(np.float32(a)) <= found.min()
    assert found.max() <= float(np.float32(b)) <= b + slack(b)
    low, high = inside(a, b)
    kept = values(trunc_normal((2000,), 0.0, std, low, high, dtype=dtype))
    assert a <= kept.min()
    assert kept.max() <= b


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("a", "b"), [(0.7, 0.71), (-3.3, 5.1), (0.0, 1.0), (-0.7, -0.6)])
def test_narrow_types_reach_the_rounded_bounds(dtype: str, a: float, b: float) -> None:
    low, high = (float(np.float32(bound).astype(NARROW[dtype])) for bound in (a, b))
    for tensor in (
        uniform((20_000,), a, b, dtype=dtype),
        trunc_normal((20_000,), 0, 4, a, b, dtype=dtype),
    ):
        found = values(tensor)
        assert low <= found.min()
        assert found.max() <= high


def test_the_figure_of_the_page_is_what_is_drawn() -> None:
    found = values(uniform((8_000_000,), 0.7, 0.71, dtype="F64"))
    below = found[found < 0.7]
    # About four in a million: 3.7 over 64 million samples of four seeds.
    assert 15 <= len(below) <= 48
    assert set(below) == {float(np.float32(0.7))}
    assert 0.7 - float(np.float32(0.7)) == pytest.approx(1.19e-8, rel=0.01)
    assert found.max() < 0.71
    kept = values(uniform((8_000_000,), *inside(0.7, 0.71), dtype="F64"))
    assert kept.min() >= 0.7
    assert kept.max() < 0.71


def test_an_interval_between_two_float32s_has_one_value() -> None:
    found = values(uniform((100,), 0.7, 0.7 + 1e-9, dtype="F64"))
    assert set(found) == {float(np.float32(0.7))}
    with pytest.raises(PlanError):
        layout(Plan({"w": uniform((2,), *inside(0.7, 0.7 + 1e-9))}))
