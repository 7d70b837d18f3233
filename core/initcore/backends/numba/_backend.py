"""The backend's class: from a job to calls of the compiled code, shared among CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends.numba import _kernels
from initcore.backends.numba._words import BLOCK
from initcore.machine import available_cpus, run_all
from initcore.stream import (
    Draw,
    Job,
    NormalDraw,
    Runs,
    Stream,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)

# Elements of a part that one thread works on, at least: some hundred microseconds, since
# handing one over costs tens of them.
_PART = 1 << 18

# Parts for each thread, so that a slow one does not keep the others waiting.
_PARTS_PER_THREAD = 4

_DTYPES = {
    "F32": _kernels.F32,
    "F64": _kernels.F64,
    "BF16": _kernels.BF16,
    "F16": _kernels.F16,
    "F8_E4M3": _kernels.F8_E4M3,
    "F8_E5M2": _kernels.F8_E5M2,
    "U32": _kernels.F32,  # words: the draw says so
}


class NumbaBackend:
    """Fills arrays with compiled code on all CPUs this process may use.

    INITSERVE_THREADS sets another number of threads. Making the first one compiles the
    code (some seconds) or loads it from Numba's cache.
    """

    name = "numba"

    def __init__(self) -> None:
        # Compiled here, so that a Numba that does not work fails before there is work.
        job = Job(WordDraw(), Stream(0, 0, 0, 0), "U32")
        _task(job, Runs(np.zeros(1, dtype=np.uint64), 1), np.empty(0, dtype=np.uint32))(0, 0)

    def fill(self, job: Job, runs: Runs, out: NDArray[Any]) -> None:
        """See `initcore.backends.Backend.fill`."""
        count = runs.count
        if not count:
            return
        task = _task(job, runs, out)
        if count < _PART:
            task(0, count)
            return
        # Parts end where blocks do, which is also where cache lines do.
        threads = available_cpus()
        parts = min(threads * _PARTS_PER_THREAD, count // _PART) if threads > 1 else 1
        step = -(-count // (parts * BLOCK)) * BLOCK
        run_all(lambda first: task(first, first + step), range(0, count, step), threads)


def _task(job: Job, runs: Runs, out: NDArray[Any]) -> Callable[[int, int], None]:
    """What fills out[first:last], called with first and last."""
    # Types are settled here: for any others Numba would compile everything once more.
    starts, length = np.require(runs.starts, np.uint64, ["C", "W"]), int(runs.length)
    dtype, stream, draw = _DTYPES[job.dtype], job.stream, job.draw
    kind, *parameters = _parameters(draw)
    fixed = (dtype, kind, stream.d0, stream.d1, stream.d2, stream.d3, *parameters)

    def fill(first: int, last: int) -> None:
        part = out[first:last].view(np.uint8)
        _kernels.fill(starts, length, first, part, *fixed)

    return fill


def _parameters(draw: Draw) -> tuple[int, int, int, float, float, float, float]:
    """Its number, the interval of words, offset, factor, and what to clamp to."""
    f, everything = float, (0, 1 << 32)
    if isinstance(draw, UniformDraw):
        ends = f(draw.low), f(draw.high)
        return _kernels.UNIFORM, *everything, f(draw.mid), f(draw.half), *ends
    if isinstance(draw, NormalDraw):
        return _kernels.NORMAL, *everything, f(draw.mean), f(draw.std), 0.0, 0.0
    if isinstance(draw, TruncNormalDraw):
        interval, ends = (draw.first, draw.width), (f(draw.low), f(draw.high))
        return _kernels.TRUNC_NORMAL, *interval, f(draw.mean), f(draw.std), *ends
    if isinstance(draw, WordDraw):
        return _kernels.WORDS, *everything, 0.0, 0.0, 0.0, 0.0
    raise TypeError(f"{draw!r} has no kernel")
