"""fetch and fetch_file: the weights of a plan, as arrays or as a safetensors file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from initcore import Layout, VirtualFile
from initcore.backends import select
from numpy.typing import NDArray

from initclient._files import replacing
from initclient._plans import PlanLike, lay_out, warn_about
from initclient._progress import Progress
from initclient._receiver import Buffer, Sink
from initclient._target import refuse_backend, resolve_target

# Written at a time; large enough for every backend to be fast.
_PIECE_BYTES = 8 << 20


def fetch(
    plan: PlanLike,
    *,
    target: str | None = None,
    backend: str | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> dict[str, NDArray[Any]]:
    """The weights of a plan: the same bits from every server and in this process.

    Args:
        plan: a Plan, a dict from names to tensors, or the path of a plan file.
        target: address of a server, as HOST:PORT. None means the environment variable
            INITSERVE_TARGET, else this process. "local" (or "") means this process even if
            the variable is set.
        backend: what computes in this process: "auto", "numpy", "numba" or "cupy". None
            means the environment variable INITSERVE_BACKEND, else "auto".
        seed: the plan's seed instead of its own; for a dict, its seed (default 0).
        timeout: seconds for the whole transfer from a server; None means no limit. It does
            not limit computing in this process.
        progress: called now and then with the bytes done and the bytes in all.

    Returns:
        Arrays by name, in the plan's order, writable, each of the shape of the part that
        the plan asks for; bfloat16 and float8 have the types of ml_dtypes. Those from a
        server share one block of memory.

    Raises:
        PlanError: if the plan is wrong; nothing was sent then.
        InitserveError: if a server cannot give the weights, whole and right.
        ValueError: for a backend together with a server.
        BackendError, MissingPackageError: if the backend cannot run here.

    Example:
        >>> import initclient as ic
        >>> weights = ic.fetch({"fc.bias": ic.zeros((3,))}, target="local")
        >>> weights["fc.bias"]
        array([0., 0., 0.], dtype=float32)
    """
    address = resolve_target(target)
    refuse_backend(backend, address)
    laid_out = lay_out(plan, seed, address)
    warn_about(laid_out.warnings)
    if address is None:
        return _compute(laid_out, backend, progress)
    from initclient import _remote

    buffer = Buffer(laid_out)
    said = _remote.download(laid_out, address, buffer, timeout, progress)
    warn_about(_news(said, laid_out))
    return buffer.arrays()


def fetch_file(
    plan: PlanLike,
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    backend: str | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes the weights of a plan to a safetensors file, in little memory.

    The file appears whole or not at all; one that is there already is replaced at the end,
    in one step. The plan may be larger than memory.

    Args:
        plan: as for `fetch`, like all arguments but the path.
        path: the file to write.
        target: address of a server.
        backend: what computes in this process.
        seed: the plan's seed instead of its own.
        timeout: seconds for the whole transfer from a server.
        progress: called now and then with the bytes done and the bytes in all.

    Returns:
        The path.

    Raises:
        OSError: if the file cannot be written.
        PlanError, InitserveError, ValueError, BackendError, MissingPackageError: as `fetch`.
    """
    address = resolve_target(target)
    refuse_backend(backend, address)
    laid_out = lay_out(plan, seed, address)
    warn_about(laid_out.warnings)
    said: tuple[str, ...] = ()
    with replacing(path) as file:
        if address is None:
            _compute_to(laid_out, file, backend, progress)
        else:
            from initclient import _remote

            said = _remote.download(laid_out, address, file, timeout, progress)
    warn_about(_news(said, laid_out))
    return Path(path)


def _file(laid_out: Layout, backend: str | None) -> VirtualFile:
    elements = sum(entry.tensor.count for entry in laid_out.entries)
    return VirtualFile(laid_out, select(backend, elements=elements))


def _compute(
    laid_out: Layout, backend: str | None, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    file = _file(laid_out, backend)
    done = laid_out.data_begin
    arrays = {}
    for entry in laid_out.entries:
        arrays[entry.tensor.name] = file.array(entry)
        done += entry.end - entry.begin
        if progress:
            progress(done, laid_out.size)
    return arrays


def _compute_to(
    laid_out: Layout, sink: Sink, backend: str | None, progress: Progress | None
) -> None:
    file = _file(laid_out, backend)
    for begin, piece in file.pieces(0, file.size, _PIECE_BYTES):
        sink.write(piece)
        if progress:
            progress(begin + len(piece), file.size)


def _news(said: tuple[str, ...], laid_out: Layout) -> list[str]:
    """What a server says about a plan beyond what this side has said already."""
    return [text for text in said if text not in laid_out.warnings]
