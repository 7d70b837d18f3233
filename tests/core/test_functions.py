"""Functions of draws by compiled code: the reference's bits, for any chain and any doubles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, Tensor, VirtualFile, layout
from initcore.backends import Backend, FunctionsBackend, NumpyBackend
from initcore.backends.cupy import CupyBackend
from initcore.backends.native._steps import FUNCTIONS
from initcore.plan import builders as ic
from initcore.plan import schemes
from initcore.stream import Step, apply_steps, encode_doubles
from numpy.typing import NDArray

from tests import plans
from tests.native_targets import NAMES, target

DOMAINS = {
    # Function: above which number its arguments are. All others take any.
    "log": 0.0,
    "inverse_softplus": 0.0,
    "sqrt": -math.ulp(0.0),
    "reciprocal": 0.0,
    "log1p": -1.0,
}

# What the formulas tell apart, and the ends of the doubles.
EDGES = [0.0, 0.5, 1.0, 2.0, math.log(2) / 2, math.sqrt(0.5), 36.7, 708.4, 709.8, 745.2, 800.0]
EDGES += [
    5e-324,
    2.0**-1022,
    2.0**-1023,
    1e-300,
    2.0**-149,
    2.0**-126,
    1e300,
    1.7976931348623157e308,
]


def right(steps: Sequence[Step], values: NDArray[np.float64], dtype: str) -> bytes:
    with np.errstate(all="ignore"):
        return encode_doubles(apply_steps(steps, values), dtype).tobytes()


@pytest.fixture(scope="module", params=[*NAMES, "cuda"])
def backend(request: pytest.FixtureRequest) -> Any:
    """Compiled code that computes functions: each CPU target, and the CUDA source on this CPU."""
    if request.param == "cuda":
        return CupyBackend(request.getfixturevalue("cupy"))
    return target(request.param)


def found(
    backend: FunctionsBackend, steps: Sequence[Step], values: NDArray[np.float64], dtype: str
) -> bytes:
    out = np.empty_like(encode_doubles(values[:0], dtype), shape=values.shape)
    backend.apply(steps, values, dtype, out)
    return out.tobytes()


def many_doubles() -> NDArray[np.float64]:
    """Of every size, of both signs, and around each edge."""
    random = np.random.default_rng(5)
    anywhere = np.ldexp(random.uniform(0.5, 1.0, 20_000), random.integers(-1073, 1025, 20_000))
    near = [math.ldexp(1 + n * 2.0**-52, 0) * edge for edge in EDGES for n in range(-3, 4)]
    usual = random.uniform(-40, 40, 20_000)
    found = np.concatenate([anywhere, np.array(near), usual])
    found = found[np.isfinite(found)]
    return np.concatenate([found, -found])


def test_every_function_has_a_number() -> None:
    assert set(FUNCTIONS) == set(schemes.FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_has_the_bits_of_the_reference(backend: Any, function: str) -> None:
    values = many_doubles()
    values = values[values > DOMAINS.get(function, -math.inf)]
    numbers = {"add": [(0.1, None)], "multiply": [(-3.7, None)]}.get(function, [(None, None)])
    if function == "clamp":
        numbers = [(-1.5, 2.5), (-0.0, None), (None, 0.0)]
    for a, b in numbers:
        steps = [Step(function, a, b)]
        assert found(backend, steps, values, "F64") == right(steps, values, "F64")


any_double = st.floats(allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(any_double, min_size=1, max_size=40), st.sampled_from(plans.FLOATS))
def test_any_double_is_rounded_once(backend: Any, numbers: list[float], dtype: str) -> None:
    values = np.array(numbers)
    assert found(backend, [], values, dtype) == right([], values, dtype)


@pytest.mark.parametrize("dtype", plans.FLOATS)
def test_doubles_of_every_size_are_rounded_once(backend: Any, dtype: str) -> None:
    values = many_doubles()
    # And all that lie beside a tie of bfloat16 and of the shorter types.
    ties = 1 + (2 * np.arange(4096) + 1) * 2.0**-13
    beside = [np.ldexp(ties + n * 2.0**-50, e) for n in (-1, 0, 1) for e in (-140, -20, -9, 0, 8)]
    values = np.concatenate([values, *beside])
    assert found(backend, [], values, dtype) == right([], values, dtype)


real = st.floats(-8, 8)
any_step = (
    st.sampled_from(["abs", "square", "exp", "expm1", "softplus"]).map(Step)
    | st.builds(Step, st.sampled_from(["add", "multiply"]), real)
    | st.builds(lambda a, b: Step("clamp", min(a, b), max(a, b)), real, real)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(any_step, max_size=5),
    st.integers(0, 2000),
    st.sampled_from(plans.FLOATS),
)
def test_chains_have_the_bits_of_one_function_after_the_other(
    backend: Any, steps: list[Step], count: int, dtype: str
) -> None:
    values = np.random.default_rng(count).uniform(-4, 4, count)
    # Of infinities the functions are left open: no plan has them.
    with np.errstate(all="ignore"):
        for number in range(len(steps)):
            if not np.isfinite(apply_steps(steps[: number + 1], values)).all():
                steps = steps[:number]
                break
    assert found(backend, steps, values, dtype) == right(steps, values, dtype)


def test_threads_share_a_large_array() -> None:
    values = np.random.default_rng(1).uniform(0.01, 9, 300_001)
    steps = [Step("log"), Step("softplus")]
    for dtype in ("F32", "BF16"):
        assert found(target(NAMES[0]), steps, values, dtype) == right(steps, values, dtype)


def nested() -> dict[str, Tensor]:
    rate = ic.uniform((50, 7), -7, -2)
    step = ic.apply({"rate": rate}, "exp", dtype="bf16")
    rows = ic.apply({"x": ic.normal((50, 7), zero_rows=(3, 9))}, "square", zero_rows=(4,))
    return {
        "alone": ic.apply({"x": ic.uniform((24, 5), 1, 16)}, "log"),
        "of a function": ic.apply({"step": step}, "inverse_softplus", dtype="bf16"),
        "of zero rows": ic.apply({"rows": rows}, "add", a=1.5, zero_rows=(0,)),
        "of parts": ic.apply(
            {"both": ic.concatenate({"a": ic.ones((3, 7)), "b": rate}, axis=0)}, "exp"
        ),
        "in parts": ic.permute({"x": ic.apply({"rate": rate}, "exp")}, axes=(1, 0)),
        "of no elements": ic.apply({"x": ic.normal((0, 3))}, "abs"),
    }


def bytes_by(backend: Backend, plan: Plan) -> bytes:
    file = VirtualFile(layout(plan), backend)
    return bytes(file.read(0, file.size))


def test_plans_of_functions_have_the_bits_of_the_reference(backend: Any) -> None:
    plan = Plan(nested(), seed=3)
    cut: dict[str, Any] = {"of a function": (slice(3, 40), slice(2, 6)), "in parts": slice(1, 5)}
    for each in (plan, plan.shard(cut)):
        assert bytes_by(backend, each) == bytes_by(NumpyBackend(), each)


def test_zero_rows_of_a_function_are_zero_before_the_next_one(backend: Any) -> None:
    inner = ic.apply({"x": ic.ones((4, 3), zero_rows=(1,))}, "exp", zero_rows=(2,))
    outer = ic.apply({"inner": inner}, "add", a=1.5, zero_rows=(3,))
    file = VirtualFile(layout(Plan({"w": outer})), backend)
    made = np.empty(12, dtype=np.float32)
    file.fill(file.layout.entries[0], made)
    rows = made.reshape(4, 3)
    assert (rows == rows[:, :1]).all()
    assert rows[:, 0].tolist() == [pytest.approx(math.e + 1.5), 2.5, 1.5, 0.0]
