"""On a GPU: the cupy backend gives the reference's bits, and the golden ones.

Skipped where there is no CUDA device. test_cuda_source.py and test_cuda_compilation.py say
as much as can be said without one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from initcore import VirtualFile, layout
from initcore.backends import Backend, load
from initcore.backends import cupy as cupy_backend
from initcore.backends.native._steps import FUNCTIONS
from initcore.dtypes import DTYPES
from initcore.stream import Step, apply_steps, encode_doubles
from initcore.stream.draws import (
    Draw,
    Job,
    NormalDraw,
    Runs,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)
from initcore.stream.keys import Stream

from tests import plans
from tests.core import test_golden


def missing() -> str:
    """Why there is no CUDA device to test on; empty if there is one."""
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "CuPy finds none"
    except Exception as error:  # CuPy's import fails in many ways where CUDA is half there
        return f"{type(error).__name__}: {error}"
    return ""


if MISSING := missing():
    pytest.skip(f"no CUDA device: {MISSING}", allow_module_level=True)
pytestmark = pytest.mark.gpu

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
DRAWS: tuple[Draw, ...] = (
    UniformDraw(mid=0.125, half=1.5, low=-1.375, high=float(np.float32(1.625) - 2**-23)),
    NormalDraw(mean=0.25, std=float(np.float32(0.02))),
    NormalDraw(mean=0.0, std=float(np.float32(1e-40))),
    NormalDraw(mean=0.0, std=float(np.float32(1e38))),
    TruncNormalDraw(first=97712197, width=4099542902, mean=-0.5, std=1.0, low=-2.5, high=1.5),
)
CASES = [(draw, dtype) for draw in DRAWS for dtype in FLOATS] + [(WordDraw(), "U32")]
IDS = [f"{number}-{type(draw).__name__}-{dtype}" for number, (draw, dtype) in enumerate(CASES)]
STREAM = Stream(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.fixture(scope="module")
def backend() -> Backend:
    return load("cupy")


def runs_at(starts: list[int], length: int) -> Runs:
    return Runs(np.array(starts, dtype=np.uint64), length)


def reference(job: Job, runs: Runs) -> np.ndarray:
    out = np.empty(runs.count, dtype=DTYPES[job.dtype].storage)
    with np.errstate(over="ignore"):
        load("numpy").fill(job, runs, out)
    return out


def assert_reference_bits(backend: Backend, job: Job, runs: Runs) -> None:
    filled = np.full(runs.count, 0x55, dtype=DTYPES[job.dtype].storage)
    backend.fill(job, runs, filled)
    np.testing.assert_array_equal(filled.view(np.uint8), reference(job, runs).view(np.uint8))


@pytest.mark.parametrize(("draw", "dtype"), CASES, ids=IDS)
def test_a_long_run_has_the_bits_of_the_reference(backend: Backend, draw: Draw, dtype: str) -> None:
    # Several pieces, from an uneven position on, over the wrap of the counter's low word.
    runs = runs_at([2**34 - 999_999], 3 * cupy_backend.PIECE // DTYPES[dtype].storage.itemsize + 5)
    assert_reference_bits(backend, Job(draw, STREAM, dtype), runs)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 1000])
@pytest.mark.parametrize(("draw", "dtype"), CASES, ids=IDS)
def test_many_runs_have_the_bits_of_the_reference(
    backend: Backend, draw: Draw, dtype: str, length: int
) -> None:
    starts = [0, 5, 1002, 2**34 - 3, 2**34, 2**62 - 7, 2**62 + 1, 7, 5] * 100
    assert_reference_bits(backend, Job(draw, STREAM, dtype), runs_at(starts, length))


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
@pytest.mark.parametrize(("draw", "dtype"), CASES, ids=IDS)
def test_a_device_array_is_filled_wherever_it_begins(
    backend: Any, draw: Draw, dtype: str, skip: int
) -> None:
    import cupy

    job, runs = Job(draw, STREAM, dtype), runs_at([6, 2**34 - 5, 9], 51)
    array = cupy.zeros(skip + runs.count + 1, dtype=DTYPES[dtype].storage)
    backend.fill_device(job, runs, array[skip:-1])
    filled = cupy.asnumpy(array)
    expected = reference(job, runs)
    np.testing.assert_array_equal(filled[skip:-1].view(np.uint8), expected.view(np.uint8))
    assert not filled[:skip].any()
    assert not filled[-1]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_numbers_have_the_bits_of_the_reference(
    backend: Any, function: str, dtype: str
) -> None:
    random = np.random.default_rng(7)
    # Two pieces and a part of a third; all of them in the domain of every function.
    values = random.uniform(1e-3, 9.0, 2 * cupy_backend.PIECE // 8 + 5)
    values[:20_000] = np.ldexp(random.uniform(0.5, 1.0, 20_000), random.integers(-1073, 9, 20_000))
    step = Step(
        function, *{"add": (0.1,), "multiply": (-3.7,), "clamp": (0.5, 2.5)}.get(function, ())
    )
    filled = np.empty(len(values), dtype=DTYPES[dtype].storage)
    backend.apply([step], values, dtype, filled)
    with np.errstate(all="ignore"):
        expected = encode_doubles(apply_steps([step], values), dtype)
    np.testing.assert_array_equal(filled.view(np.uint8), expected.view(np.uint8))


def test_threads_fill_at_once(backend: Backend) -> None:
    def work(number: int) -> None:
        job = Job(NormalDraw(0.0, 1.0), Stream(number, 1, 2, 3), "BF16")
        for start in range(3):
            assert_reference_bits(backend, job, runs_at([start], 1_000_001))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_plan_of_every_scheme_is_the_same_file(backend: Backend, dtype: str) -> None:
    laid_out = layout(plans.every_scheme(dtype=dtype))
    on_device, on_host = VirtualFile(laid_out, backend), VirtualFile(laid_out, load("numpy"))
    assert on_device.read(0, laid_out.size) == on_host.read(0, laid_out.size)


@pytest.mark.parametrize("case", test_golden.cases())
def test_the_bits_are_the_golden_ones(backend: Backend, case: dict[str, Any]) -> None:
    test_golden.check(case, backend)
