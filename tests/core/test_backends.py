"""Every backend gives the reference's bits: any draw, element type, position and cut."""

from __future__ import annotations

import os
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
from initcore.backends import load, select
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
from numpy.typing import NDArray

from tests import native_targets
from tests.native_targets import backend_of

# To have a new backend tested, add its name. (Those that need a device are in tests/gpu.)
BACKENDS = native_targets.NAMES

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


@pytest.mark.parametrize("name", ["numpy", *BACKENDS])
def test_nothing_to_fill_is_nothing_done(name: str) -> None:
    backend = REFERENCE if name == "numpy" else backend_of(name)
    for runs in (runs_of([], 5), runs_of([7], 0)):
        assert fill(backend, job_of(DRAWS["normal"], "F32"), runs).size == 0


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
    column = np.array(counter, dtype=np.uint64)[:, None]
    assert philox(column, (key[0], key[1]))[:, 0].tolist() == expected


@pytest.fixture(params=["1", "2", "3", "7"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("INITSERVE_THREADS", request.param)
    return


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("dtype", "count"), [("F32", 1_300_001), ("F8_E4M3", 2 * 2**18 + 1)])
def test_any_number_of_threads_gives_the_same_bits(dtype: str, count: int) -> None:
    assert_reference_bits("native", job_of(DRAWS["normal"], dtype), runs_of([3], count))
    columns = runs_of([5 + 4096 * row for row in range(count // 100)], 100)
    assert_reference_bits("native", job_of(DRAWS["normal"], dtype), columns)


def test_callers_in_many_threads_get_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", "3")
    jobs = [job_of(DRAWS[draw], "F32") for draw in ("normal", "uniform", "trunc-two-sigma")]
    runs = runs_of([1], 2**19 + 77)
    expected = [fill(REFERENCE, job, runs).tobytes() for job in jobs]
    with ThreadPoolExecutor(8) as callers:
        found = callers.map(lambda n: fill(load("native"), jobs[n % 3], runs).tobytes(), range(24))
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


INTERRUPTED = """
import os, signal, threading, time
from initcore.machine import run_all

# A shell starts what runs in its background with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
at_work, ended = threading.Event(), []

def task(part):
    if threading.current_thread() is threading.main_thread():
        assert at_work.wait(60)
        return
    at_work.set()
    for _ in range(3):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    ended.append(part)

try:
    run_all(task, range(2), 2)
except KeyboardInterrupt:
    assert len(ended) == 1, "the caller frees memory to which a thread still writes"
    print("interrupted")
"""


def test_an_interrupt_waits_for_the_threads_that_write() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "INITSERVE_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


FORKS = """
import os, numpy as np
from initcore.backends import load, select
from initcore.stream.draws import Job, NormalDraw, Runs
from initcore.stream.keys import Stream

def values():
    out = np.empty(1 << 20, np.float32)
    runs = Runs(np.zeros(1, np.uint64), out.size)
    load("native").fill(Job(NormalDraw(0.0, 1.0), Stream(1, 2, 3, 4), "F32"), runs, out)
    return out.tobytes()

before = values()
child = os.fork()
if child == 0:
    os._exit(0 if values() == before else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this platform has no fork")
def test_a_fork_fills_with_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", "2")
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=120)


def test_the_name_numba_means_native_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "backend='numba' is deprecated and means 'native'"
    with pytest.warns(FutureWarning, match=said):
        assert select("numba") is load("native")
    with pytest.warns(FutureWarning, match=said):
        assert select("numba", 10) is load("native")
    monkeypatch.setenv("INITSERVE_BACKEND", "numba")
    with pytest.warns(FutureWarning, match="INITSERVE_BACKEND='numba' is deprecated"):
        assert select() is load("native")
    with pytest.warns(FutureWarning, match=said):
        assert load.__wrapped__("numba") is load("native")
