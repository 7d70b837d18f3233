"""The weights of a plan, computed in this process."""

from __future__ import annotations

from typing import Any

from initcore import Checkpoints, Layout
from initcore.backends import Backend, select
from initcore.file import Progress

from initclient._compute.frameworks import Framework
from initclient._source import open_file


def compute(
    laid_out: Layout,
    backend: str | None,
    progress: Progress | None,
    framework: Framework,
    checkpoints: Checkpoints | None,
) -> dict[str, Any]:
    """The framework's arrays by name, in the plan's order."""
    chosen = _select(laid_out, backend, for_gpu=framework.on_gpu)
    file = open_file(laid_out, chosen, checkpoints)
    done = laid_out.data_begin
    arrays = {}
    for entry in laid_out.entries:
        made = framework.make(chosen, entry.tensor)
        if made is None:
            made = framework.take(file.array(entry), entry.tensor)
        arrays[entry.tensor.name] = made
        done += entry.end - entry.begin
        if progress:
            progress(done, laid_out.size)
    return arrays


def _select(laid_out: Layout, backend: str | None, *, for_gpu: bool = False) -> Backend:
    # Little work is not worth a start of Numba, but what stays on a GPU is best made there.
    elements = None if for_gpu else sum(entry.tensor.count for entry in laid_out.entries)
    return select(backend, elements=elements)
