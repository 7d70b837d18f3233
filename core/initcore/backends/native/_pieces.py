"""Many small tensors in one call: a table of jobs, which the library works off row by row."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native._library import JOB, STREAM_AT, Library, packed
from initcore.backends.native._parts import threads_and_parts
from initcore.machine import run_all
from initcore.stream import Job, Pieces, Stream

# Elements of a part that one thread works on, at least.
_PART = 1 << 18

# The layout of `Piece` in source/cpu/interface.h: a job, count, out.
_COUNT_AT = struct.calcsize(f"{JOB.format}0Q")
_OUT_AT = struct.calcsize(f"{JOB.format}Q0P")
_PIECE = np.dtype(
    {
        "names": ["stream", "count", "out"],
        "formats": [(np.uint32, 4), np.uint64, np.uintp],
        "offsets": [STREAM_AT, _COUNT_AT, _OUT_AT],
        "itemsize": struct.calcsize(f"{JOB.format}QP0Q"),
    }
)


def fill_pieces_with(library: Library, pieces: Sequence[Pieces]) -> None:
    """Fills with the functions of a target, on all CPUs that this process may use."""
    # Their addresses are in the table.
    starts = [np.ascontiguousarray(one.runs.starts, np.uint64) for one in pieces]
    table = _table(pieces, [each.ctypes.data for each in starts])
    ends = np.cumsum(table["count"])
    elements = int(ends[-1]) if len(ends) else 0
    if not elements:
        return
    threads, parts = threads_and_parts(elements, _PART)
    cuts = np.searchsorted(ends, [elements * i // parts for i in range(1, parts)], side="right")
    bounds, address = [0, *cuts.tolist(), len(table)], table.ctypes.data

    def fill_part(number: int) -> None:
        first, last = bounds[number], bounds[number + 1]
        library.fill_pieces(address + first * _PIECE.itemsize, last - first)

    run_all(fill_part, range(parts), threads)


def _table(pieces: Sequence[Pieces], starts: Sequence[int]) -> NDArray[np.void]:
    """The rows of all pieces; `starts` are the addresses of the starts of their runs."""
    rows = bytearray()
    for one, begin in zip(pieces, starts, strict=True):
        job = Job(one.draw, Stream(0, 0, 0, 0), one.dtype)
        row = packed(job, begin, int(one.runs.length)).ljust(_PIECE.itemsize, b"\0")
        rows += row * len(one.outs)
    table = np.frombuffer(rows, _PIECE)
    done = 0
    for one in pieces:
        own = table[done : done + len(one.outs)]
        own["stream"], own["count"], own["out"] = one.streams, one.runs.count, one.outs
        done += len(one.outs)
    return table
