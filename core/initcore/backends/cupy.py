"""The GPU backend: kernels of source/cuda/initserve.cu, run by CuPy.

The source is compiled for the GPU that is there, and CuPy keeps the result on disk. Work
for the host goes through in pieces of `PIECE` bytes, so that a tensor of any size needs
little memory on the device, and while one piece is copied to the host the next one is made.
"""

from __future__ import annotations

import posixpath
import queue
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native import packed_steps
from initcore.dtypes import DTYPES
from initcore.errors import BackendError
from initcore.stream import (
    Draw,
    Job,
    NormalDraw,
    Runs,
    Step,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)

OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
"""How the source is compiled. Only --fmad=false differs from the defaults; it is the one
without which the bits are wrong."""

PIECE = 1 << 24
"""Bytes of output made at a time: a third of a millisecond on the bus, many times as long as
starting a kernel and a copy takes."""

# Calls that run at once; the others wait. Each holds two pieces on the device and two in
# pinned memory, and two already keep both the bus and a core busy.
_CALLS = 4

# Those of source/cuda/quantiles.h: 32 * WARPS threads a block, QUADS Philox counters a thread.
_THREADS = 256
_COUNTERS = 4
# Enough blocks for any GPU; the kernels step through the rest.
_MAX_BLOCKS = 1 << 12


def cuda_source() -> str:
    """The CUDA source with its headers in place, as one text.

    CuPy names a compiled kernel after the text that it was given, and so would not notice a header
    that has changed.
    """
    seen: set[str] = set()

    def joined(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        file = resources.files("initcore.backends").joinpath(posixpath.join("source", name))
        text = file.read_text("utf-8").replace("#pragma once\n", "")
        folder = posixpath.dirname(name)

        def header(include: re.Match[str]) -> str:
            return joined(posixpath.normpath(posixpath.join(folder, include[1])))

        return re.sub(r'^#include "(.+)"\n', header, text, flags=re.MULTILINE)

    return joined("cuda/initserve.cu")


class CupyBackend:
    """Fills arrays on one device.

    Args:
        cupy: the module.
        device: the device's number; None means the one that is current now.

    Raises:
        BackendError: if the kernels cannot be compiled here.
    """

    name = "cupy"

    def __init__(self, cupy: Any, *, device: int | None = None) -> None:
        self._cupy = cupy
        self._device: int = cupy.cuda.Device().id if device is None else device
        self._module = cupy.RawModule(code=cuda_source(), options=OPTIONS)
        try:
            # Now, not at the first fill, so that "auto" can still choose another backend.
            with cupy.cuda.Device(self._device):
                self._module.compile()
        except Exception as error:
            raise BackendError(f"The cupy backend cannot compile its kernels: {error}") from error
        # Last in, first out: calls that do not overlap share one pair of buffers.
        self._idle: queue.LifoQueue[tuple[_Lane, _Lane] | None] = queue.LifoQueue()
        for _ in range(_CALLS):
            self._idle.put(None)

    def fill(self, job: Job, runs: Runs, out: NDArray[Any]) -> None:
        """See `initcore.backends.Backend.fill`."""
        if runs.count:
            with self._lanes() as lanes:
                self._fill_by_pieces(lanes, job, runs, out)

    def apply(
        self, steps: Sequence[Step], values: NDArray[np.float64], dtype: str, out: NDArray[Any]
    ) -> None:
        """See `initcore.backends.FunctionsBackend.apply`."""
        if len(values):
            with self._lanes() as lanes:
                self._apply_by_pieces(lanes, steps, values, f"initserve_apply_{dtype}", out)

    @contextmanager
    def _lanes(self) -> Iterator[tuple[_Lane, _Lane]]:
        """Two lanes for one call, on the device."""
        with self._cupy.cuda.Device(self._device):
            lanes = self._idle.get()
            try:
                lanes = lanes or (_Lane(self._cupy), _Lane(self._cupy))
                yield lanes
            finally:
                if lanes:
                    # After an error, nothing may be written to the caller's array any more.
                    for lane in lanes:
                        lane.target = None
                self._idle.put(lanes)

    def _fill_by_pieces(
        self, lanes: tuple[_Lane, _Lane], job: Job, runs: Runs, out: NDArray[Any]
    ) -> None:
        done = 0
        for number, piece in enumerate(_pieces(runs, PIECE // out.itemsize)):
            lane = lanes[number % 2]
            lane.finish()
            with lane.stream:
                # A Philox counter makes four elements. One instruction stores them if the buffer
                # has the alignment of the tensor.
                skip = int(piece.starts[0] & np.uint64(3))
                values = lane.device(out.dtype)[skip : skip + piece.count]
                self.fill_device(job, piece, values)
                lane.copy(values, out[done : done + piece.count])
            done += piece.count
        for lane in lanes:
            lane.finish()

    def _apply_by_pieces(
        self,
        lanes: tuple[_Lane, _Lane],
        steps: Sequence[Step],
        values: NDArray[np.float64],
        name: str,
        out: NDArray[Any],
    ) -> None:
        kernel = self._module.get_function(name)
        chain = np.frombuffer(packed_steps(steps), dtype=np.uint8)
        size = PIECE // values.itemsize
        for number, at in enumerate(range(0, len(values), size)):
            lane = lanes[number % 2]
            lane.finish()
            with lane.stream:
                given = self._cupy.asarray(values[at : at + size])
                made = lane.device(out.dtype)[: len(given)]
                kernel(
                    (min(-(-len(given) // _THREADS), _MAX_BLOCKS),),
                    (_THREADS,),
                    (
                        *(self._cupy.asarray(chain), np.uint64(len(steps))),
                        *(given, np.uint64(len(given)), made),
                    ),
                )
                lane.copy(made, out[at : at + size])
        for lane in lanes:
            lane.finish()

    def fill_device(self, job: Job, runs: Runs, out: Any) -> None:
        """Writes the samples at the positions of runs, in order, into a device array.

        The kernel is queued on CuPy's current stream; nothing waits for it.

        Args:
            job: what to draw, from which stream, in which element type.
            runs: where in the global tensor; `runs.count` elements.
            out: contiguous 1-D CuPy array of `runs.count` elements on the current device,
                whose type is `DTYPES[job.dtype].storage`.

        Raises:
            ValueError: for an array of another type or size.
        """
        storage = DTYPES[job.dtype].storage
        if out.dtype != storage or out.shape != (runs.count,) or not out.flags.c_contiguous:
            raise ValueError(
                f"out is {out.dtype} of shape {out.shape}; "
                f"it must be contiguous {storage} of shape ({runs.count},)"
            )
        if not runs.count:
            return
        name, parameters = _parameters(job.draw)
        if len(runs.starts) == 1:
            starts, start = np.uint64(0), np.uint64(runs.starts[0])
        else:
            starts, start = self._cupy.asarray(runs.starts), np.uint64(0)
        threads = -(-len(runs.starts) * ((runs.length + 6) // 4) // _COUNTERS)
        kernel = self._module.get_function(f"initserve_{name}_{job.dtype}")
        kernel(
            (min(-(-threads // _THREADS), _MAX_BLOCKS),),
            (_THREADS,),
            (
                starts,
                start,
                np.uint64(runs.length),
                np.uint64(len(runs.starts)),
                *(np.uint32(d) for d in (job.stream.d0, job.stream.d1)),
                *(np.uint32(d) for d in (job.stream.d2, job.stream.d3)),
                *parameters,
                out,
            ),
        )


class _Lane:
    """A CUDA stream with a buffer on the device and one on the host, for one piece at a time.

    Attributes:
        stream: the CUDA stream that orders its kernels and copies.
        target: the place in the caller's array of the piece in flight; None if idle.
    """

    def __init__(self, cupy: Any) -> None:
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.target: NDArray[Any] | None = None
        # Room for the offset of a piece, up to three elements of eight bytes.
        room = PIECE + 32
        with self.stream:
            self._device = cupy.empty(room, dtype=np.uint8)
        memory = cupy.cuda.alloc_pinned_memory(room)
        self._host: NDArray[np.uint8] = np.frombuffer(memory, dtype=np.uint8, count=room)

    def device(self, dtype: np.dtype[Any]) -> Any:
        """The buffer on the device, as elements of a type."""
        return self._device.view(dtype)

    def copy(self, values: Any, target: NDArray[Any]) -> None:
        """Queues the copy of a device array to the host; `finish` completes it in `target`."""
        pinned = self._host.view(target.dtype)[: len(target)]
        values.get(stream=self.stream, out=pinned, blocking=False)
        self.target = target

    def finish(self) -> None:
        """Waits for the piece in flight, if any, and copies it to its target."""
        if self.target is None:
            return
        target, self.target = self.target, None
        self.stream.synchronize()
        target[:] = self._host.view(target.dtype)[: len(target)]


def _parameters(draw: Draw) -> tuple[str, tuple[Any, ...]]:
    """The kernels' name for a draw, and their arguments first, width, centre, scale, low, high."""
    f, none = np.float32, (np.uint32(0), np.uint64(0))
    if isinstance(draw, UniformDraw):
        return "uniform", (*none, f(draw.mid), f(draw.half), f(draw.low), f(draw.high))
    if isinstance(draw, NormalDraw):
        return "normal", (*none, f(draw.mean), f(draw.std), f(0), f(0))
    if isinstance(draw, TruncNormalDraw):
        interval = np.uint32(draw.first), np.uint64(draw.width)
        values = f(draw.mean), f(draw.std), f(draw.low), f(draw.high)
        return "trunc_normal", (*interval, *values)
    if isinstance(draw, WordDraw):
        return "words", (*none, f(0), f(0), f(0), f(0))
    raise TypeError(f"{draw!r} has no kernel")


def _pieces(runs: Runs, limit: int) -> Iterator[Runs]:
    """The same positions in the same order, at most `limit` elements at a time."""
    if runs.length > limit:
        for start in runs.starts:
            for offset in range(0, runs.length, limit):
                first = np.array([start + np.uint64(offset)], dtype=np.uint64)
                yield Runs(first, min(limit, runs.length - offset))
        return
    rows = limit // runs.length
    for row in range(0, len(runs.starts), rows):
        yield Runs(runs.starts[row : row + rows], runs.length)
