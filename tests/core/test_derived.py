"""Literal values, functions of draws and norms: close to the real functions, and never outside
their domains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import initclient as ic
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, VirtualFile, layout
from initcore.backends import load
from initcore.backends.numpy import samples
from initcore.dtypes import DTYPES
from initcore.generate import Generator
from initcore.plan import MAX_LITERAL
from initcore.plan.schemes import FUNCTIONS
from initcore.resolve import Sampled, resolve
from initcore.stream import (
    UniformDraw,
    apply_function,
    encode_doubles,
    encode_scalar,
    sum_of_squares,
)
from initcore.wire.plan_file import format_plan, parse_plan

from tests import plans

EXACT: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    # Function: the real one, and the arguments that it is tried on.
    "exp": (mpmath.exp, -700, 700),
    "expm1": (mpmath.expm1, -3, 3),
    "log": (mpmath.log, 1e-300, 1e3),
    "log1p": (lambda x: mpmath.log(1 + x), -0.99, 50),
    "sqrt": (mpmath.sqrt, 0, 1e6),
    "square": (lambda x: x * x, -1e3, 1e3),
    "reciprocal": (lambda x: 1 / x, 1e-3, 1e3),
    "abs": (abs, -3, 3),
    "softplus": (lambda x: mpmath.log(1 + mpmath.exp(x)), -30, 30),
    "inverse_softplus": (lambda x: x + mpmath.log(1 - mpmath.exp(-x)), 1e-6, 0.6),
}


def values_of(tensor: Tensor, seed: int = 0) -> Any:
    laid_out = layout(Plan({"w": tensor}, seed))
    return VirtualFile(laid_out, load("numpy")).array(laid_out.entries[0])


def test_every_function_is_tried() -> None:
    assert {*EXACT, "add", "multiply", "clamp"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", EXACT)
def test_functions_are_within_a_few_units_in_the_last_place(name: str) -> None:
    function, low, high = EXACT[name]
    x = np.random.default_rng(1).uniform(low, high, 2000)
    x = np.concatenate([x, x * 1e-9]) if low <= 0 < high else x
    found = apply_function(name, x, None, None)
    with mpmath.workprec(200):
        for argument, value in zip(x, found, strict=True):
            right = function(mpmath.mpf(float(argument)))
            assert abs(mpmath.mpf(float(value)) - right) <= 8 * np.spacing(abs(float(right)))


def test_extreme_arguments() -> None:
    x = np.array([-1e308, -745.2, 0.0, -0.0, 709.7, 710.0, 1e308])
    found = apply_function("exp", x, None, None)
    assert found.tolist()[:1] + found.tolist()[2:4] == [0.0, 1.0, 1.0]
    assert found[4] < math.inf == found[5] == found[6]
    least = apply_function("log", np.array([5e-324, 2.0**1023]), None, None)
    assert np.allclose(least, [math.log(5e-324), 1023 * math.log(2)], rtol=1e-15)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1))
def test_doubles_are_rounded_once(values: list[float]) -> None:
    for dtype in plans.FLOATS:
        kept = [v for v in values if abs(v) <= DTYPES[dtype].max]
        made = encode_doubles(np.array(kept), dtype)
        assert made.tobytes() == b"".join(encode_scalar(v, dtype) for v in kept)


def test_doubles_near_a_tie_are_not_rounded_twice() -> None:
    # Halfway between two bfloat16, and a little more than float32 can tell from it.
    value = 1.0 + 2.0**-8 + 2.0**-40
    assert encode_doubles(np.array([value]), "BF16").view(np.uint16)[0] == 0x3F81
    assert encode_doubles(np.array([1.0 + 2.0**-8]), "BF16").view(np.uint16)[0] == 0x3F80


def test_a_function_is_that_of_the_drawn_values() -> None:
    drawn = values_of(ic.concatenate({"A": ic.uniform((24,), 1, 16)}))
    made = values_of(ic.apply({"A": ic.uniform((24,), 1, 16)}, "log"))
    assert np.array_equal(made, np.log(drawn.astype(np.float64)).astype(np.float32))


def test_functions_of_functions_are_not_rounded_in_between() -> None:
    rate = ic.uniform((1000,), -7, -2)
    nested = ic.apply({"e": ic.apply({"x": rate}, "exp", dtype="bfloat16")}, "inverse_softplus")
    x = values_of(ic.concatenate({"x": rate})).astype(np.float64)
    exact = np.exp(x) + np.log(-np.expm1(-np.exp(x)))
    found = values_of(nested).astype(np.float64)
    # Half a unit of bfloat16, from one rounding.
    assert np.all(np.abs(found - exact) <= np.abs(exact) * 2.0**-8)


def test_a_norm_is_torchs_weight_norm() -> None:
    v = ic.kaiming_uniform((6, 4, 3))
    plan = Plan({"v": v, "g": ic.norm({"v": v}, axes=0)}, seed=5)
    made = {name: torch.from_numpy(w) for name, w in ic.fetch(plan, target="local").items()}
    right = torch.norm_except_dim(made["v"].double(), 2, 0)
    torch.testing.assert_close(made["g"].double(), right, rtol=2.0**-23, atol=0)


def test_literals_of_any_library_are_numbers() -> None:
    rows = [[1, 2.5], [3, -4]]
    same = [rows, np.array(rows), torch.tensor(rows), [np.float32(v) for row in rows for v in row]]
    assert {ic.literal((2, 2), values) for values in same} == {ic.literal((2, 2), (1, 2.5, 3, -4))}
    assert values_of(ic.literal((), True, dtype="bool")) == np.True_
    assert values_of(ic.literal((2,), [2**53, -7], dtype="int64")).tolist() == [2**53, -7]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.arange(6.0).reshape(3, 2), r"have shape \[3, 2\], but the tensor has shape \[2, 3\]"),
        (torch.arange(6.0).reshape(3, 2), r"have shape \[3, 2\], but the tensor has"),
        ([[1, 2], [3, 4], [5, 6]], r"have shape \[3, 2\], but the tensor has"),
        ([[1, 2, 3, 4], [5, 6]], "are lists of different lengths, but the tensor has"),
        ([[1, 2], 3, 4, 5, 6], "are lists of different lengths, but the tensor has"),
    ],
)
def test_values_in_another_shape_are_not_flattened(values: Any, text: str) -> None:
    with pytest.raises(ic.PlanError, match=f"^values: {text}"):
        ic.literal((2, 3), values)


def test_an_error_about_a_long_field_is_short() -> None:
    wrong = dataclasses.replace(ic.normal((2,)), values=tuple(range(60_000)))
    with pytest.raises(
        ic.PlanError, match=r"values: is .*60,000 in all.*normal does not"
    ) as caught:
        ic.describe(ic.Plan({"w": wrong}), target="local")
    assert len(str(caught.value)) < 300


def test_the_repr_of_a_literal_is_short() -> None:
    assert len(repr(ic.literal((60_000,), range(60_000)))) < 200


def test_a_plan_file_holds_them_exactly() -> None:
    plan = plans.every_later_case()
    for json_form in (False, True):
        assert parse_plan(format_plan(plan, json_form=json_form)) == plan


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (lambda: ic.literal((3,), [1, 2]), r"values: has 2 numbers; shape \[3\] has 3 elements"),
        (lambda: ic.literal((2,), [1.5, 2], dtype="int8"), "values: has 1.5, which I8 cannot hold"),
        (lambda: ic.literal((2,), [1, 1e6], dtype="float16"), "values: the value 1000000.0 is bey"),
        (lambda: ic.literal((2,), [1, math.nan]), "values: is nan; it must be a finite number"),
        (lambda: ic.literal((2,), [1, "2"]), "values: is '2'; it must be a number, 2 without"),
        (lambda: ic.literal((0,), []), "values: is missing"),
        (lambda: ic.literal((2,), {1, 2}), "values: is {1, 2}; it must be a number"),
        (lambda: ic.literal((2,), {1: 3, 2: 4}), "values: is {1: 3, 2: 4}; it must be a number"),
        (lambda: ic.literal((2,), torch.empty(2, device="meta")), "values: is .*; it must be a nu"),
        (
            lambda: ic.literal((MAX_LITERAL + 1,), range(MAX_LITERAL + 1)),
            "values: has 65537 numbers; at most 65536 are allowed: compose",
        ),
        (
            lambda: ic.broadcast_to((3, 4), {"x": ic.zeros((3,))}),
            r"shape: is \[3, 4\], to which a part of shape \[3\] cannot be broadcast",
        ),
        (lambda: ic.apply({"x": ic.normal((3,))}, "log"), "'x' go down to -6.35; put clamp before"),
        (
            lambda: ic.apply({"x": ic.uniform((3,), -1, 16)}, "log"),
            "takes values above 0, but those of 'x' go down to -0.999999; put clamp before",
        ),
        (
            # Its float32 samples are rounded to both bounds.
            lambda: ic.apply({"x": ic.uniform((3,), 0, 2.0**-149)}, "log"),
            "takes values above 0, but those of 'x' go down to 0",
        ),
        (lambda: ic.apply({"x": ic.uniform((3,), 1, 2, zero_rows=[0])}, "log"), "go down to 0"),
        (lambda: ic.apply({"x": ic.uniform((3,), -2, 2)}, "log1p"), "takes values above -1"),
        (lambda: ic.apply({"x": ic.uniform((3,), -1, 2)}, "sqrt"), "takes values at least 0"),
        (lambda: ic.apply({"x": ic.normal((3,))}, "reciprocal"), "is reciprocal, but 'x' can be z"),
        (lambda: ic.apply({"x": ic.normal((3,), 100)}, "exp"), "beyond the largest finite value"),
        (lambda: ic.apply({"x": ic.normal((3,))}, "add"), "a: is missing; function add needs its"),
        (
            lambda: ic.apply({"x": ic.normal((3,))}, "abs", 1),
            "a: is 1.0, but function abs takes no",
        ),
        (lambda: ic.apply({"x": ic.normal((3,))}, "clamp"), "clamp needs one of its bounds"),
        (
            lambda: ic.apply({"x": ic.normal((3,))}, "clamp", 2, 1),
            "a: is 2.0, above b, which is 1.0",
        ),
        (lambda: ic.apply({"x": ic.normal((3,))}, "lgo"), "function: 'lgo' is not known: .*'log'"),
        (
            lambda: ic.apply({"x": ic.ones((3,), dtype="int32")}, "abs"),
            "dtype: is I32, which scheme apply cannot fill",
        ),
        (
            lambda: ic.apply({"x": ic.pretrained((3,), "a.safetensors")}, "abs"),
            "parts: has 'x', whose values are in a checkpoint",
        ),
        (
            lambda: ic.norm({"x": ic.pretrained((3,), "a.safetensors")}),
            "parts: are in a checkpoint; norm needs values that the plan bounds",
        ),
        (
            lambda: ic.norm({"x": ic.zeros((3, 2))}, axes=(0, -2)),
            "must name dimensions of the part",
        ),
        (lambda: ic.norm({"x": ic.zeros((3,))}, axes=1), "must name dimensions of the part, -1..0"),
    ],
)
def test_what_is_wrong_is_named(tensor: Callable[[], Tensor], text: str) -> None:
    with pytest.raises(PlanError, match=text):
        layout(Plan({"w": tensor()}))


@given(plans.composed())
def test_no_value_lies_outside_the_range_of_a_tensor(tensor: Tensor) -> None:
    if DTYPES[tensor.dtype].kind != "float":
        return
    (resolved,) = resolve(Plan({"w": tensor}))
    found = resolved.range
    assert found is not None
    values = values_of(tensor).astype(np.float64)
    if values.size:
        # The functions are monotone up to a few units in the last place of a double.
        unit = max(map(abs, found)) * 2.0**-50
        assert found[0] - unit <= values.min() <= values.max() <= found[1] + unit


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        # Exact at both ends: 2 - 2 is zero, which is outside the domain.
        (
            lambda: ic.apply({"x": ic.apply({"two": ic.constant((3,), 2)}, "add", -2)}, "log"),
            "function: is log, which takes values above 0, but those of 'x' go down to 0",
        ),
        (
            lambda: ic.apply(
                {"x": ic.apply({"two": ic.literal((2,), [2, 3])}, "add", -2)}, "reciprocal"
            ),
            r"function: is reciprocal, but 'x' can be zero: its values lie within \[0, 1\]",
        ),
        # Rounded to the type, 200.1 is 208.
        (
            lambda: ic.norm({"x": ic.literal((5,), [200.1] * 5, dtype="F8_E4M3")}),
            "parts: the value 465.102 that norm can give is beyond the largest finite value of F8",
        ),
        # The sum of squares is beyond a double, though its root is not.
        (
            lambda: ic.norm({"x": ic.constant((2,), 1e200, dtype="F64")}),
            "parts: the value inf that norm can give is beyond the largest finite value of F64",
        ),
    ],
)
def test_no_value_outside_a_domain_or_a_type_is_made(
    tensor: Callable[[], Tensor], text: str
) -> None:
    with pytest.raises(PlanError, match=text) as caught:
        layout(Plan({"w": tensor()}))
    assert len(caught.value.violations) == 1


def test_a_plan_whose_values_reach_the_ends_of_a_domain_or_a_type_is_right() -> None:
    near = values_of(ic.apply({"x": ic.literal((1,), [-0.9999999])}, "log1p"))
    assert near[0] == np.float32(math.log1p(-0.9999999))
    largest = np.finfo(np.float64).max
    assert values_of(ic.apply({"x": ic.literal((), largest, dtype="F64")}, "abs")) == largest


@pytest.mark.parametrize("function", ["log", "log1p", "sqrt", "reciprocal", "inverse_softplus"])
def test_a_tensor_without_elements_is_outside_no_domain(function: Any) -> None:
    empty = ic.apply({"x": ic.uniform((0, 3), -2, 2)}, function)
    assert values_of(empty).shape == (0, 3)
    joined = ic.concatenate({"none": ic.uniform((0, 3), -2, 2), "some": ic.ones((2, 3))})
    assert np.isfinite(values_of(ic.apply({"x": joined}, function))).all()
    assert values_of(ic.norm({"x": empty})).tolist() == [[0.0]]


def test_a_norm_takes_its_part_in_blocks() -> None:
    wide = (2, (1 << 20) + (1 << 16) + 3)
    values = values_of(ic.norm({"w": ic.uniform(wide, 0.5, 1)}, axes=0))
    drawn = values_of(ic.uniform(wide, 0.5, 1, stream="w")).astype(np.float64)
    assert np.array_equal(values[:, 0], np.sqrt(sum_of_squares(drawn)).astype(np.float32))


def test_a_norm_can_be_ended() -> None:
    def end() -> None:
        raise TimeoutError

    (resolved,) = resolve(Plan({"g": ic.norm({"w": ic.normal((1 << 40,))})}))
    with pytest.raises(TimeoutError):
        Generator(load("numpy"), pulse=end).fill(resolved, 0, np.empty(1, np.float32))


# The outermost words of a uniform draw, and some between them.
WORDS = np.array([0, 255, 256, 2**31 - 1, 2**31, 2**32 - 257, 2**32 - 256, 2**32 - 1], np.uint32)


@given(a=st.floats(-1e30, 1e30, width=64), b=st.floats(-1e30, 1e30, width=64))
@example(a=0.0, b=16.0)
@example(a=-1.0, b=2.0)
@example(a=-1.0, b=1e9)
@example(a=0.1, b=0.1)
@example(a=0.0, b=5e-324)
@example(a=-(2.0**-149), b=2.0**-148)
def test_the_range_of_uniform_draws_is_that_of_the_outermost_words(a: float, b: float) -> None:
    a, b = min(a, b), max(a, b)
    (resolved,) = resolve(Plan({"w": ic.uniform((4,), a, b)}))
    assert isinstance(resolved.content, Sampled)
    assert isinstance(resolved.content.draw, UniformDraw)
    made = samples(resolved.content.draw, WORDS)
    assert resolved.range == (made[0], made[-1]) == (made.min(), made.max())


@pytest.mark.parametrize("function", ["log", "reciprocal", "inverse_softplus"])
def test_a_function_takes_uniform_draws_that_do_not_reach_its_bound(function: Any) -> None:
    """No word gives the 0 of [0, 16)."""
    drawn = ic.uniform((24,), 0, 16)
    made = ic.apply({"A": drawn}, function)
    (resolved,) = resolve(Plan({"w": made}))
    assert resolved.parts[0].range == (2.0**-21, 16.0 - 2.0**-20)
    right = apply_function(
        function, values_of(ic.concatenate({"A": drawn})).astype(np.float64), None, None
    )
    assert np.array_equal(values_of(made), right.astype(np.float32))


def test_every_later_case_has_a_range() -> None:
    for resolved in resolve(plans.every_later_case()):
        low, high = resolved.range or (1.0, 0.0)
        assert low <= high
