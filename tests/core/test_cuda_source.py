"""The CUDA source and the cupy backend around it give the reference's bits.

No GPU is needed: a host C++ compiler builds the very source that ships, and tests/host_cuda.py
runs its kernels under the backend. test_cuda_compilation.py holds what CUDA's compilers make
of the source; tests/gpu compares on a device.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore.backends import NumpyBackend
from initcore.backends import cupy as cupy_backend
from initcore.backends.cupy import CupyBackend
from initcore.dtypes import DTYPES
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
from initcore.stream.quantile import TAIL, normal_quantile
from initcore.stream.rounding import encode_samples

from tests import host_cuda

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
DRAWS: dict[str, Draw] = {
    "uniform": UniformDraw(mid=0.125, half=1.5, low=-1.375, high=float(np.float32(1.625) - 2**-23)),
    "normal": NormalDraw(mean=0.25, std=float(np.float32(0.02))),
    "trunc_normal": TruncNormalDraw(
        first=97712197, width=4099542902, mean=-0.5, std=1.0, low=-2.5, high=1.5
    ),
}
CASES = [(draw, dtype) for draw in DRAWS.values() for dtype in FLOATS] + [(WordDraw(), "U32")]
IDS = [f"{type(draw).__name__}-{dtype}" for draw, dtype in CASES]
STREAM = Stream(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.fixture(scope="session")
def backend(cupy: Any) -> CupyBackend:
    return CupyBackend(cupy)


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.itemsize}")


def assert_reference_bits(backend: CupyBackend, job: Job, runs: Runs) -> None:
    storage = DTYPES[job.dtype].storage
    expected = np.empty(runs.count, dtype=storage)
    with np.errstate(over="ignore"):
        NumpyBackend().fill(job, runs, expected)
    filled = np.full(runs.count, 0x55, dtype=storage)
    backend.fill(job, runs, filled)
    np.testing.assert_array_equal(bits(filled), bits(expected))


def runs_at(starts: list[int], length: int) -> Runs:
    return Runs(np.array(starts, dtype=np.uint64), length)


# ---- Every draw, every element type, every position ----


@pytest.mark.parametrize(("draw", "dtype"), CASES, ids=IDS)
def test_a_long_run_has_the_bits_of_the_reference(
    backend: CupyBackend, draw: Draw, dtype: str
) -> None:
    assert_reference_bits(backend, Job(draw, STREAM, dtype), runs_at([12345], 300_001))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 1000])
@pytest.mark.parametrize(("draw", "dtype"), CASES, ids=IDS)
def test_many_runs_have_the_bits_of_the_reference(
    backend: CupyBackend, draw: Draw, dtype: str, length: int
) -> None:
    starts = [0, 5, 1002, 2**34 - 3, 2**34, 2**62 - 7, 2**62 + 1, 7, 5]
    assert_reference_bits(backend, Job(draw, STREAM, dtype), runs_at(starts, length))


words32 = st.integers(0, 2**32 - 1)
positions = st.one_of(
    st.integers(0, 64),
    st.integers(2**34 - 20, 2**34 + 20),  # the counter's low word wraps at 4 * 2^32
    st.integers(2**62 - 20, 2**62 + 20),
    st.integers(0, 2**63),
)


@settings(max_examples=150, deadline=None)
@given(
    case=st.sampled_from(CASES),
    stream=st.builds(Stream, words32, words32, words32, words32),
    starts=st.lists(positions, min_size=1, max_size=9),
    length=st.one_of(st.sampled_from([1, 3, 4, 5, 1000]), st.integers(1, 40)),
)
def test_any_stream_and_any_runs_have_the_bits_of_the_reference(
    backend: CupyBackend, case: tuple[Draw, str], stream: Stream, starts: list[int], length: int
) -> None:
    draw, dtype = case
    assert_reference_bits(backend, Job(draw, stream, dtype), runs_at(starts, length))


@settings(max_examples=60, deadline=None)
@given(
    mean=st.floats(-100, 100, width=32),
    std=st.floats(0, 50, width=32),  # within F8_E4M3, which ends at 448
    first=st.integers(0, 2**31),
    width=st.integers(2**16, 2**31),
    clamp=st.tuples(st.floats(-300, 0, width=32), st.floats(2**-100, 300, width=32)),
    dtype=st.sampled_from(FLOATS),
    start=positions,
)
def test_any_parameters_have_the_bits_of_the_reference(
    backend: CupyBackend,
    mean: float,
    std: float,
    first: int,
    width: int,
    clamp: tuple[float, float],
    dtype: str,
    start: int,
) -> None:
    # Adding zero makes -0 a zero: which of 0 and -0 is the smaller, NumPy leaves open.
    mean, low, high = mean + 0.0, clamp[0] + 0.0, clamp[1]
    draws: list[Draw] = [
        NormalDraw(mean, std),
        UniformDraw(mean, std, low, high),
        TruncNormalDraw(first, width, mean, std, low, high),
        TruncNormalDraw(0, 2**32, mean, std, low, high),
    ]
    for draw in draws:
        assert_reference_bits(backend, Job(draw, STREAM, dtype), runs_at([start], 333))


@pytest.mark.parametrize("std", [1e-40, 1e-6, 1e3, 1e38])
@pytest.mark.parametrize("dtype", FLOATS)
def test_samples_too_small_or_too_large_for_a_type_have_the_bits_of_the_reference(
    backend: CupyBackend, dtype: str, std: float
) -> None:
    job = Job(NormalDraw(0.0, float(np.float32(std))), STREAM, dtype)
    assert_reference_bits(backend, job, runs_at([0], 20_000))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("length", [3, 37, 10_001])
def test_the_order_in_which_lanes_run_does_not_show(
    cupy: Any,
    backend: CupyBackend,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    backwards: bool,
) -> None:
    # One block: a warp goes on to a second tile, and a third. All words of the second draw are in
    # a tail, and no word of the third.
    draws = [
        DRAWS["normal"],
        TruncNormalDraw(first=0, width=2**26, mean=0.0, std=1.0, low=-9.0, high=9.0),
        TruncNormalDraw(first=2**30, width=2**31, mean=0.0, std=1.0, low=-9.0, high=9.0),
    ]
    monkeypatch.setattr(cupy_backend, "_MAX_BLOCKS", 1)
    cupy.library.host_backwards(int(backwards))
    try:
        for draw in draws:
            assert_reference_bits(backend, Job(draw, STREAM, "F32"), runs_at([6, 2**34], length))
            assert_reference_bits(backend, Job(draw, STREAM, "F32"), runs_at([2], length))
    finally:
        cupy.library.host_backwards(0)


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_estimates_of_a_device_may_be_off_by_one(cupy: Any, backend: CupyBackend, off: int) -> None:
    cupy.library.host_reciprocal_error(off)
    try:
        for draw in (DRAWS["normal"], DRAWS["trunc_normal"]):
            assert_reference_bits(backend, Job(draw, STREAM, "F32"), runs_at([0], 100_000))
    finally:
        cupy.library.host_reciprocal_error(0)


# ---- The Python around the kernels ----


@pytest.mark.parametrize("start", [0, 1, 2, 3, 2**34 - 2])
@pytest.mark.parametrize("piece", [64, 1000, 4096])
@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F8_E4M3"])
def test_pieces_do_not_show(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, dtype: str, piece: int, start: int
) -> None:
    monkeypatch.setattr(cupy_backend, "PIECE", piece)
    backend = CupyBackend(cupy)
    job = Job(DRAWS["normal"], STREAM, dtype)
    before = cupy.launches
    assert_reference_bits(backend, job, runs_at([start], 5001))
    assert cupy.launches > before + 1
    assert_reference_bits(backend, job, runs_at([start, 9, 2**40 + 3, 17] * 30, 37))
    assert_reference_bits(backend, job, runs_at([start, 9, 2**40 + 3], 2003))


def test_a_grid_smaller_than_the_work_still_fills_all_of_it(
    backend: CupyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cupy_backend, "_MAX_BLOCKS", 3)
    for draw, dtype in CASES:
        assert_reference_bits(backend, Job(draw, STREAM, dtype), runs_at([3], 10_001))
        assert_reference_bits(backend, Job(draw, STREAM, dtype), runs_at([8, 1, 2] * 300, 7))


def test_threads_fill_at_once(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_backend, "PIECE", 4096)
    backend = CupyBackend(cupy)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            job = Job(DRAWS["normal"], Stream(number, 1, 2, 3), "F32")
            for start in range(8):
                assert_reference_bits(backend, job, runs_at([start], 20_000))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_no_elements_are_no_work(cupy: Any, backend: CupyBackend) -> None:
    before = cupy.launches
    backend.fill(Job(DRAWS["normal"], STREAM, "F32"), runs_at([], 4), np.empty(0, np.float32))
    backend.fill(Job(DRAWS["normal"], STREAM, "F32"), runs_at([3], 0), np.empty(0, np.float32))
    assert cupy.launches == before


def test_after_a_failure_the_backend_goes_on_and_leaves_the_failed_array_alone(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cupy_backend, "PIECE", 4096)
    backend = CupyBackend(cupy)
    job, runs = Job(DRAWS["normal"], STREAM, "F32"), runs_at([0], 5000)
    failed = np.zeros(5000, dtype=np.float32)

    def fails(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return fill_device(*args)

    calls: list[Any] = []
    fill_device = backend.fill_device
    with monkeypatch.context() as patch:
        patch.setattr(backend, "fill_device", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            backend.fill(job, runs, failed)
    left = failed.copy()
    assert_reference_bits(backend, job, runs)
    np.testing.assert_array_equal(failed, left)


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
@pytest.mark.parametrize(("draw", "dtype"), CASES, ids=IDS)
def test_a_device_array_is_filled_wherever_it_begins(
    cupy: Any, backend: CupyBackend, draw: Draw, dtype: str, skip: int
) -> None:
    storage = DTYPES[dtype].storage
    for runs in (runs_at([6], 1003), runs_at([6, 2**34 - 5, 9], 51)):
        # Exactly as long as needed: one element further is out of its memory.
        array = cupy.empty(skip + runs.count, storage)
        backend.fill_device(Job(draw, STREAM, dtype), runs, array[skip:])
        cupy.current().synchronize()
        expected = np.empty(runs.count, dtype=storage)
        NumpyBackend().fill(Job(draw, STREAM, dtype), runs, expected)
        np.testing.assert_array_equal(bits(array[skip:].get()), bits(expected))
        assert (bits(array[:skip].get()).view(np.uint8) == host_cuda.GARBAGE).all()


def test_a_device_array_of_another_type_or_size_is_refused(cupy: Any, backend: CupyBackend) -> None:
    job = Job(DRAWS["normal"], STREAM, "BF16")
    for size, dtype in ((10, np.float32), (9, np.uint16), (11, np.uint16)):
        with pytest.raises(ValueError, match="contiguous uint16 of shape"):
            backend.fill_device(job, runs_at([0], 10), cupy.empty(size, dtype))


def test_a_compiler_that_is_missing_is_reported_when_the_backend_is_made(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any) -> None:
        raise RuntimeError("libnvrtc.so.12 not found")

    monkeypatch.setattr(host_cuda.Module, "compile", fails)
    with pytest.raises(cupy_backend.BackendError, match="libnvrtc"):
        CupyBackend(cupy)


# ---- The functions of the source, one by one ----


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers(
    cupy: Any, counter: list[int], key: list[int], words: list[int]
) -> None:
    out = (ctypes.c_uint32 * 4)()
    cupy.library.host_philox((ctypes.c_uint32 * 4)(*counter), (ctypes.c_uint32 * 2)(*key), out)
    assert list(out) == words


def stratified_words() -> np.ndarray:
    """One word of each 2^10, moved about within it, and all words near the formulas' edges."""
    spread = np.arange(0, 2**32, 2**10, dtype=np.uint64)
    spread += (spread >> np.uint64(10)) * np.uint64(0x9E37) % np.uint64(2**10)
    near = np.arange(-(2**12), 2**12)
    tail = int(TAIL)
    # Within a tail, the logarithm's exponent changes near each power of two times sqrt(2).
    octaves = [int(2.0 ** (half / 2)) for half in range(24, 64)]
    edges = [0, tail, 2**31, 2**32 - tail, *octaves, *(2**32 - o for o in octaves)]
    close = (np.array(edges)[:, None] + near).reshape(-1) % 2**32
    return np.concatenate([spread.astype(np.uint32), close.astype(np.uint32)])


def test_z_has_the_bits_of_the_reference_on_stratified_words(cupy: Any) -> None:
    words = stratified_words()
    assert len(words) >= 2**22
    z = np.empty(len(words), dtype=np.float32)
    cupy.library.host_normal_quantile(
        ctypes.c_void_p(words.ctypes.data),
        ctypes.c_uint64(len(words)),
        ctypes.c_void_p(z.ctypes.data),
    )
    np.testing.assert_array_equal(bits(z), bits(normal_quantile(words)))


def samples_near_boundaries(dtype: str) -> np.ndarray:
    """Every value of a type, every tie between two, the float32 values beside them, and more."""
    kind = DTYPES[dtype].numpy
    values = np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(kind)
    with np.errstate(invalid="ignore"):  # NaNs among the values
        values = values.astype(np.float64)
    values = np.unique(values[np.isfinite(values)])
    # The value that would come next: from half way to it on, numbers overflow.
    values = np.append(values, 2 * values[-1] - values[-2])
    marks = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    with np.errstate(under="ignore", over="ignore"):
        marks = marks.astype(np.float32)
    down, up = np.nextafter(marks, np.float32(-np.inf)), np.nextafter(marks, np.float32(np.inf))
    tiny = np.array([1e-45, 1e-42, 1.1754944e-38, 1e-30, 1e-20, 1e-10], dtype=np.float32)
    huge = np.float32([1e3, 7e4, 1e5, 1e30, 3.3961775e38, 3.4028235e38, np.inf])
    return np.concatenate([marks, down, up, tiny, -tiny, huge, -huge, np.float32([0.0, -0.0])])


@pytest.mark.parametrize("dtype", FLOATS)
def test_samples_round_as_the_reference_does(cupy: Any, dtype: str) -> None:
    samples = samples_near_boundaries("F16" if dtype in ("F64", "F32") else dtype)
    out = np.empty(len(samples), dtype=DTYPES[dtype].storage)
    getattr(cupy.library, f"host_encode_{dtype}")(
        ctypes.c_void_p(samples.ctypes.data),
        ctypes.c_uint64(len(samples)),
        ctypes.c_void_p(out.ctypes.data),
    )
    with np.errstate(over="ignore"):
        expected = encode_samples(samples, dtype)
    np.testing.assert_array_equal(bits(out), bits(expected))
