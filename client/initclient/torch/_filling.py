"""Fills the memory of a model's tensors with a plan's values, without a second copy.

The values of a part in contiguous host memory are computed there, or written there as they come
from a server. The cupy backend computes a GPU's values in place too. Parts in other memory, or
with strides, pass through host memory, a limited number of bytes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from initcore import Entry, PlanError, Violation, VirtualFile
from initcore.file import Progress
from numpy.typing import NDArray

from initclient._compute import Track, batches, fill_device
from initclient._source import Request
from initclient.torch._model import dtype_name, host_bytes

# Staged on the host at a time: small against a model, large against the cost of a call.
_STAGED_BYTES = 64 << 20


class Destination(NamedTuple):
    """Consecutive elements of a part, in row-major order, and their memory in the model.

    Attributes:
        entry: the part, in the layout.
        first: the first element, counted within the part.
        tensor: the model's memory for them, of any strides and on any device.
    """

    entry: Entry
    first: int
    tensor: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.tensor.numel() * self.tensor.element_size()

    @property
    def begin(self) -> int:
        """Position of the first element in the layout's file."""
        return self.entry.begin + self.first * self.tensor.element_size()

    def pieces(self, most: int) -> Iterator[Destination]:
        """The same elements in pieces of at most `most` bytes, or of one element."""
        axis = next((i for i, size in enumerate(self.tensor.shape) if size > 1), None)
        if self.nbytes <= most or axis is None:
            yield self
            return
        size = self.tensor.shape[axis]
        row = self.tensor.numel() // size
        count = min(size, -(-self.nbytes // most))
        for low, high in ((size * i // count, size * (i + 1) // count) for i in range(count)):
            rows = self.tensor.narrow(axis, low, high - low)
            yield from Destination(self.entry, self.first + low * row, rows).pieces(most)


def fill(
    request: Request, tensors: Sequence[torch.Tensor], progress: Progress | None = None
) -> list[str]:
    """Writes the values of a plan's tensors into a model's memory.

    Args:
        request: the plan.
        tensors: for each tensor of the plan, in its order, the model's memory for it: of the
            wanted part's shape, detached. No two overlap.
        progress: called with the bytes written and in all.

    Returns:
        The warnings of the plan and of the servers.

    Raises:
        PlanError: before anything is written, for memory of another shape or element type.
        InitserveError: if no server delivers the values; some tensors are filled then.
    """
    pairs = zip(request.layout.entries, tensors, strict=True)
    placed = [Destination(entry, 0, tensor) for entry, tensor in pairs]
    _check(placed)
    try:
        warnings = _write(request, placed, progress)
    finally:
        for tensor in tensors:
            # The write bypasses torch, so that autograd has to learn of the new version.
            torch.autograd.graph.increment_version(tensor)
    return [*request.layout.warnings, *request.new_warnings(warnings)]


def _check(placed: Sequence[Destination]) -> None:
    """Refuses memory of another shape or element type, which would get other values silently.

    Raises:
        PlanError: naming the tensors.
    """
    violations = []
    for one in placed:
        tensor, dtype = one.entry.tensor, dtype_name(one.tensor.dtype)
        if dtype != tensor.dtype.name or tuple(one.tensor.shape) != tensor.shard_shape:
            message = (
                f"is {dtype} {list(one.tensor.shape)} in the model's memory, and "
                f"{tensor.dtype.name} {list(tensor.shard_shape)} in the plan"
            )
            violations.append(Violation(tensor.name, "dtype", message))
    if violations:
        raise PlanError(violations)


def _write(request: Request, placed: Sequence[Destination], progress: Progress | None) -> list[str]:
    """Writes the values; returns the servers' warnings."""
    track = Track(sum(one.nbytes for one in placed), progress)
    if request.service is not None:
        return _download(request, placed, track)
    backend = request.backend(on_gpu=any(one.tensor.is_cuda for one in placed))
    file = request.open(backend)
    for batch in batches(placed, _STAGED_BYTES):
        on_host: list[tuple[Entry, NDArray[Any]]] = []
        for one in batch:
            memory = host_bytes(one.tensor)
            if memory is not None:
                on_host.append((one.entry, memory.view(one.entry.tensor.dtype.storage)))
            elif not fill_device(backend, one.entry.tensor, one.tensor):
                _compute_through_host(file, one)
        file.fill_all(on_host)
        for one in batch:
            track.add(one.nbytes)
    return []


def _compute_through_host(file: VirtualFile, one: Destination) -> None:
    for piece in one.pieces(_STAGED_BYTES):
        staged = torch.empty(piece.tensor.shape, dtype=piece.tensor.dtype, device="cpu")
        values = _bytes_of(staged).view(one.entry.tensor.dtype.storage)
        file.fill(one.entry, values, first=piece.first)
        piece.tensor.copy_(staged)


def _download(request: Request, placed: Sequence[Destination], track: Track) -> list[str]:
    """Downloads all parts in host memory, then the others in batches; returns the warnings."""
    from initclient._transport.into_memory import download_ranges

    on_host: list[tuple[int, NDArray[np.uint8]]] = []
    elsewhere: list[Destination] = []
    for one in placed:
        memory = host_bytes(one.tensor)
        if memory is None:
            elsewhere += one.pieces(_STAGED_BYTES)
        else:
            on_host.append((one.begin, memory))
    warnings = list(download_ranges(request, on_host, track))
    for batch in batches(elsewhere, _STAGED_BYTES):
        warnings += _download_through_host(request, batch, track)
    return warnings


def _download_through_host(
    request: Request, batch: Sequence[Destination], track: Track
) -> tuple[str, ...]:
    # A function, so that its memory is freed before the next batch.
    from initclient._transport.into_memory import download_ranges

    staged = [torch.empty(one.tensor.shape, dtype=one.tensor.dtype, device="cpu") for one in batch]
    places = [(one.begin, _bytes_of(s)) for one, s in zip(batch, staged, strict=True)]
    warnings = download_ranges(request, places, track)
    for one, values in zip(batch, staged, strict=True):
        one.tensor.copy_(values)
    return warnings


def _bytes_of(staged: torch.Tensor) -> NDArray[np.uint8]:
    memory = host_bytes(staged)
    assert memory is not None
    return memory
