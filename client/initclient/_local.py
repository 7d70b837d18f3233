"""The weights of a plan, computed in this process."""

from __future__ import annotations

from typing import Any

from initcore import Layout, VirtualFile
from initcore.backends import select
from numpy.typing import NDArray

from initclient._progress import Progress
from initclient._sinks import Sink

# Written at a time; large enough for every backend to be fast.
_PIECE_BYTES = 8 << 20


def compute(
    laid_out: Layout, backend: str | None, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    """Arrays by name, in the plan's order."""
    file = _file(laid_out, backend)
    done = laid_out.data_begin
    arrays = {}
    for entry in laid_out.entries:
        arrays[entry.tensor.name] = file.array(entry)
        done += entry.end - entry.begin
        if progress:
            progress(done, laid_out.size)
    return arrays


def compute_to(
    laid_out: Layout, sink: Sink, backend: str | None, progress: Progress | None
) -> None:
    """The whole file, piece by piece."""
    file = _file(laid_out, backend)
    for begin, piece in file.pieces(0, file.size, _PIECE_BYTES):
        sink.write_at(begin, piece)
        if progress:
            progress(begin + len(piece), file.size)


def _file(laid_out: Layout, backend: str | None) -> VirtualFile:
    elements = sum(entry.tensor.count for entry in laid_out.entries)
    return VirtualFile(laid_out, select(backend, elements=elements))
