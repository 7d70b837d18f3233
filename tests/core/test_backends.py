"""Every backend gives the reference's bits: any draw, element type, position and cut."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore.backends import load
from initcore.backends.numpy import NumpyBackend, philox
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
from numpy.typing import NDArray

from tests import native_targets
from tests.native_targets import backend_of

# To have a new backend tested, add its name. (Those that need a device are in tests/gpu.)
BACKENDS = ["numba", *native_targets.NAMES]

REFERENCE = NumpyBackend()
FLOATS = ["F32", "F64", "BF16", "F16", "F8_E4M3", "F8_E5M2"]
STREAM = Stream(0x01234567, 0x89ABCDEF, 0xFEDCBA98, 0x76543210)

DRAWS: dict[str, Draw] = {
    "uniform": UniformDraw(0.25, 0.5, -0.25, float(np.nextafter(np.float32(0.75), np.float32(0)))),
    "normal": NormalDraw(0.0, 0.02),
    "normal-moved": NormalDraw(-1.5, 3.0),
    # Every element type has numbers too large and too small for it.
    "normal-wide": NormalDraw(0.0, 1e38),
    "normal-narrow": NormalDraw(0.0, 1e-40),
    "trunc-two-sigma": TruncNormalDraw(97715472, 4099536352, 0.0, 0.02, -0.04, 0.04),
    "trunc-everything": TruncNormalDraw(0, 2**32, 0.0, 1.0, -2.0, 5.0),
    "trunc-narrowest": TruncNormalDraw(2**32 - 2**16, 2**16, 0.5, 1.0, 4.0, 6.0),
    "words": WordDraw(),
}

LENGTHS = [1, 2, 3, 5, 63, 64, 65, 2047, 2048, 2049, 2050, 5000]
# 2^34 is where the counter's low word wraps.
ORIGINS = [0, 4093, 2**34, 5 * 2**34, 2**62]


def fill(backend: Any, job: Job, runs: Runs) -> NDArray[Any]:
    out = np.empty(runs.count, dtype=DTYPES[job.dtype].storage)
    # The reference tells of an overflow to infinity, which these draws are meant to have.
    with np.errstate(over="ignore"):
        backend.fill(job, runs, out)
    return out


def runs_of(starts: list[int], length: int) -> Runs:
    return Runs(np.array(starts, dtype=np.uint64), length)


def job_of(draw: Draw, dtype: str, stream: Stream = STREAM) -> Job:
    return Job(draw, stream, "U32" if isinstance(draw, WordDraw) else dtype)


def assert_reference_bits(name: str, job: Job, runs: Runs) -> None:
    expected, found = fill(REFERENCE, job, runs), fill(backend_of(name), job, runs)
    assert found.tobytes() == expected.tobytes()


numbers = st.floats(-1e3, 1e3, width=32)
spreads = st.floats(2**-30, 1e3, width=32)
word = st.integers(0, 2**32 - 1)


@st.composite
def uniform_draws(draw: st.DrawFn) -> UniformDraw:
    low, high = sorted((draw(numbers), draw(numbers)))
    return UniformDraw(draw(numbers), draw(spreads), low, high)


@st.composite
def trunc_normal_draws(draw: st.DrawFn) -> TruncNormalDraw:
    width = draw(st.integers(2**16, 2**32))
    first = draw(st.integers(0, 2**32 - width))
    low, high = sorted((draw(numbers), draw(numbers)))
    return TruncNormalDraw(first, width, draw(numbers), draw(spreads), low, high)


@st.composite
def positions(draw: st.DrawFn) -> Runs:
    length = draw(st.sampled_from(LENGTHS) | st.integers(1, 200))
    count = draw(st.integers(1, max(1, min(40, 20_000 // length))))
    origin = draw(st.sampled_from(ORIGINS))
    offset = st.integers(-min(origin, 6000), 6000)
    return runs_of([origin + draw(offset) for _ in range(count)], length)


any_draw = (
    st.builds(NormalDraw, numbers, spreads)
    | uniform_draws()
    | trunc_normal_draws()
    | st.just(WordDraw())
)


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=200, deadline=None)
@given(any_draw, st.sampled_from(FLOATS), st.builds(Stream, word, word, word, word), positions())
def test_any_backend_gives_the_reference_bits(
    name: str, draw: Draw, dtype: str, stream: Stream, runs: Runs
) -> None:
    assert_reference_bits(name, job_of(draw, dtype, stream), runs)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("draw", DRAWS)
def test_every_draw_in_every_element_type(name: str, draw: str, dtype: str) -> None:
    assert_reference_bits(name, job_of(DRAWS[draw], dtype), runs_of([2**34 - 50_001], 100_001))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_runs_of_every_length_everywhere(name: str, origin: int, length: int) -> None:
    # Backwards and overlapping too: a run promises nothing about the next one.
    starts = [origin + step for step in (0, 7, 5003, 1, 2, 3, 3, 9999, 4096)]
    for draw in (DRAWS["words"], DRAWS["normal"]):
        assert_reference_bits(name, job_of(draw, "F32"), runs_of(starts, length))
        assert_reference_bits(name, job_of(draw, "BF16"), runs_of(starts[:1], length))


@pytest.mark.parametrize("name", BACKENDS)
def test_nothing_to_fill_is_nothing_done(name: str) -> None:
    assert fill(backend_of(name), job_of(DRAWS["normal"], "F32"), runs_of([], 5)).size == 0


def test_one_compilation_serves_all_draws_and_element_types() -> None:
    from initcore.backends.numba import _kernels

    starts = np.array([5, 9], dtype=np.uint64)
    starts.flags.writeable = False
    whole_numbers = (NormalDraw(0, 1), UniformDraw(0, 1, -1, 1), WordDraw())
    for draw in (*DRAWS.values(), *whole_numbers):
        for dtype in FLOATS:
            assert_reference_bits("numba", job_of(draw, dtype), Runs(starts, 70))
    assert len(_kernels.fill.signatures) == 1


# From Random123: counter, key, output.
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_its_known_answers(
    counter: list[int], key: list[int], expected: list[int]
) -> None:
    from initcore.backends.numba import _words

    column = np.array(counter, dtype=np.uint64)[:, None]
    assert philox(column, (key[0], key[1]))[:, 0].tolist() == expected
    quads = np.empty(2, dtype=np.uint64)
    low = np.array([counter[0] | counter[1] << 32], dtype=np.uint64)
    _words.philox(low, quads, *(np.uint64(n) for n in (*key, *counter[2:])))
    assert quads.view(np.uint32).tolist() == expected


def test_numba_makes_the_reference_quantile_of_any_word() -> None:
    from initcore.backends.numba import _samples

    edge = int(TAIL)
    centres = [0, edge, 2**31, 2**32 - edge, 2**32]
    near = [w for c in centres for w in range(c - 1000, c + 1000) if 0 <= w < 2**32]
    words = np.concatenate([np.array(near, np.uint32), np.arange(0, 2**32, 4001, dtype=np.uint32)])
    assert len(words) % 64, "some beyond the last whole mask"
    z, places = np.empty(len(words), np.float32), np.empty(len(words) + 4, np.uint32)
    picked, values = np.empty(len(words), np.int32), np.empty(len(words), np.float32)
    zero, one = np.float32(0), np.float32(1)
    _samples.central(words, z, zero, one)
    count = _samples.tail_places(words, places)
    _samples.tail(words, z, places[:count], picked, values, zero, one)
    assert z.tobytes() == (zero + one * normal_quantile(words)).tobytes()


def finite_patterns() -> NDArray[np.float32]:
    """One float32 in 1001, and all near the powers of two, where roundings change."""
    patterns = np.arange(0, 2**32, 1001, dtype=np.uint32)
    powers = (np.arange(512, dtype=np.uint32) << np.uint32(23))[:, None]
    sixteenths = (np.arange(16, dtype=np.uint32) << np.uint32(19))[:, None]
    steps = (sixteenths + np.arange(-3, 4, dtype=np.int32).astype(np.uint32)).reshape(-1)
    with np.errstate(over="ignore"):
        near = (powers + steps).reshape(-1)
    values = np.concatenate([patterns, near]).view(np.float32)
    return values[~np.isnan(values)]


@pytest.mark.parametrize("dtype", ["F16", "F8_E4M3", "F8_E5M2", "BF16"])
def test_numba_rounds_any_sample_as_the_reference_does(dtype: str) -> None:
    from initcore.backends.numba import _encodings

    samples = finite_patterns()
    out = np.empty(samples.shape, dtype=DTYPES[dtype].storage)
    shapes = {"F16": (10, -14, 0x7C00, 15), "F8_E4M3": (3, -6, 0x7F, 7)}
    if dtype == "BF16":
        _encodings.to_bfloat16(samples, out)
    else:
        shape = shapes.get(dtype, (2, -14, 0x7C, 7))
        _encodings.to_small(samples, out, *(np.int32(n) for n in shape))
    with np.errstate(over="ignore"):
        assert out.tobytes() == encode_samples(samples, dtype).tobytes()


def test_the_compiled_code_joins_no_operations() -> None:
    import numba
    from initcore.backends.numba import _kernels

    load("numba")
    # Compiled anew: code that came from the cache has no listing.
    again = numba.njit(**_kernels.OPTIONS)(_kernels.fill.py_func)
    again.compile(_kernels.fill.signatures[0])
    (listing,) = again.inspect_asm().values()
    assert re.search(r"\bv?divps|\bfdiv\b", listing), "not a listing of vector code"
    assert not re.search(r"\b(v?fn?m(add|sub)|fml[as])", listing)


@pytest.fixture(params=["1", "2", "3", "7"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("INITSERVE_THREADS", request.param)
    return


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ["numba", "native"])
@pytest.mark.parametrize(("dtype", "count"), [("F32", 1_300_001), ("F8_E4M3", 2 * 2**18 + 1)])
def test_any_number_of_threads_gives_the_same_bits(name: str, dtype: str, count: int) -> None:
    assert_reference_bits(name, job_of(DRAWS["normal"], dtype), runs_of([3], count))
    columns = runs_of([5 + 4096 * row for row in range(count // 100)], 100)
    assert_reference_bits(name, job_of(DRAWS["normal"], dtype), columns)


@pytest.mark.parametrize("name", ["numba", "native"])
def test_callers_in_many_threads_get_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", "3")
    jobs = [job_of(DRAWS[draw], "F32") for draw in ("normal", "uniform", "trunc-two-sigma")]
    runs = runs_of([1], 2**19 + 77)
    expected = [fill(REFERENCE, job, runs).tobytes() for job in jobs]
    with ThreadPoolExecutor(8) as callers:
        found = callers.map(lambda n: fill(load(name), jobs[n % 3], runs).tobytes(), range(24))
        for number, values in enumerate(found):
            assert values == expected[number % 3]


def test_an_error_in_any_thread_reaches_the_caller() -> None:
    from initcore.machine import run_all

    done = []

    def task(part: int) -> None:
        if part == 5:
            raise MemoryError("part 5")
        done.append(part)

    with pytest.raises(MemoryError, match="part 5"):
        run_all(task, range(100), 4)
    run_all(done.append, range(100, 200), 4)
    assert set(range(100, 200)) <= set(done)


def test_calls_at_the_same_time_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from initcore.machine import run_all

    monkeypatch.setenv("INITSERVE_THREADS", "3")

    def threads_of_a_call(parts: int) -> int:
        # No part ends before as many threads as there should be have one.
        seen = set()

        def task(part: int) -> None:
            seen.add(threading.get_ident())
            time.sleep(0.05)

        run_all(task, range(parts), 3)
        return len(seen)

    assert threads_of_a_call(6) == 3
    found = []
    with ThreadPoolExecutor(1) as pool:

        def meanwhile(part: int) -> None:
            if part == 0:
                found.append(pool.submit(threads_of_a_call, 6).result())
            while not found:
                time.sleep(0.01)

        run_all(meanwhile, range(2), 2)
        assert found == [1], "two of three CPUs are at work"
        with pytest.raises(ZeroDivisionError):
            run_all(lambda part: 1 // part, range(3), 3)
    assert threads_of_a_call(6) == 3, "a call that failed leaves its CPUs"


def test_cpus_that_become_free_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from initcore.machine import run_all

    monkeypatch.setenv("INITSERVE_THREADS", "3")
    begun, ended = threading.Event(), threading.Event()

    def short(part: int) -> None:
        begun.set()
        ended.wait()

    seen = set()

    def long(part: int) -> None:
        seen.add(threading.get_ident())
        if part == 3:
            assert len(seen) == 1
            ended.set()
        time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(run_all, short, range(1), 1) for _ in range(2)]
        begun.wait()
        while sum(not other.running() for other in others):
            time.sleep(0.001)
        time.sleep(0.05)
        run_all(long, range(20), 3)
    assert len(seen) == 3


def test_work_goes_on_alone_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    from initcore.machine import threads

    class Full:
        def submit(self, work: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setenv("INITSERVE_THREADS", "3")
    monkeypatch.setattr(threads, "_pool", Full)
    done: list[int] = []
    threads.run_all(done.append, range(10), 3)
    assert done == list(range(10))


FORKS = """
import os, sys, numpy as np
from initcore.backends import load
from initcore.stream.draws import Job, NormalDraw, Runs
from initcore.stream.keys import Stream

def values():
    out = np.empty(1 << 20, np.float32)
    runs = Runs(np.zeros(1, np.uint64), out.size)
    load(sys.argv[1]).fill(Job(NormalDraw(0.0, 1.0), Stream(1, 2, 3, 4), "F32"), runs, out)
    return out.tobytes()

before = values()
child = os.fork()
if child == 0:
    os._exit(0 if values() == before else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("name", ["numba", "native"])
def test_a_fork_fills_with_threads_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", "2")
    subprocess.run([sys.executable, "-c", FORKS, name], check=True, timeout=120)


@pytest.mark.parametrize("count", [1, 5, 63, 64, 65, 130])
def test_numba_knows_the_first_and_the_last_word_of_the_tails(count: int) -> None:
    """In whole masks of 64 and in what is left of them."""
    from initcore.backends.numba import _samples
    from initcore.stream.quantile import TAIL

    tail = int(TAIL)
    edges = [0, tail - 1, tail, tail + 1, 2**31, 2**32 - tail - 1, 2**32 - tail, 2**32 - 1]
    words = np.array([edges[i % len(edges)] for i in range(count)], dtype=np.uint32)
    places = np.empty(count + 4, np.uint32)
    found = places[: _samples.tail_places(words, places)].tolist()
    inside = [i for i, w in enumerate(words.tolist()) if w < tail or w >= 2**32 - tail]
    assert found == inside
