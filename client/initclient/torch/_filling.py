"""From rectangles of a plan into the memory of a model's tensors, without a copy beside it.

Where a rectangle lies in one piece of host memory, its values are made there, or written
there as they come from a server. On a GPU that CuPy sees they are made there too. What lies
elsewhere or in strides comes by way of the host, a limited number of bytes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from initcore import Checkpoints, Plan, Tensor
from initcore.backends import Backend, select
from initcore.generate import MatrixCache
from numpy.typing import NDArray

from initclient._compute import batches, fill_device
from initclient._files import Scattered, Sink
from initclient._source import Folder, Request, make_request, open_file, resolve_target
from initclient.torch._model import host_bytes

# Staged on the host at a time: little beside a model, much beside the cost of a request.
_STAGED_BYTES = 64 << 20


@dataclass(frozen=True)
class Part:
    """A rectangle of a plan's tensor, and where it goes.

    Attributes:
        key: a name for it that no other part has.
        tensor: the plan's tensor with the rectangle as its slices.
        destination: the rectangle in the model's memory.
    """

    key: str
    tensor: Tensor
    destination: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.destination.numel() * self.destination.element_size()


def fill(
    parts: Sequence[Part],
    seed: int,
    *,
    target: str | None,
    backend: str | None,
    timeout: float | None,
    checkpoints: Folder | Checkpoints | None = None,
) -> list[str]:
    """Puts the values of parts where they go.

    Args:
        parts: the parts; no two overlap in memory.
        seed: the plan's seed.
        target: address of a server, as for `ic.fetch`.
        backend: what computes in this process, as for `ic.fetch`.
        timeout: seconds for each request to a server.
        checkpoints: the folder of checkpoints, or what it was opened as.

    Returns:
        What there is to warn of, as sentences.

    Raises:
        InitserveError: if a server cannot give the values; some parts are filled then.
    """
    source = _Source(parts, seed, target, backend, timeout, checkpoints)
    here: list[tuple[Part, NDArray[np.uint8]]] = []
    elsewhere = []
    for part in parts:
        memory = host_bytes(part.destination)
        if memory is None:
            elsewhere.append(part)
        else:
            here.append((part, memory))
    if here:
        source.bring([part for part, _ in here], [memory for _, memory in here])
    elsewhere = source.make_on_devices(elsewhere)
    pieces = (piece for part in elsewhere for piece in _pieces(part))
    for batch in batches(pieces, _STAGED_BYTES):
        _by_way_of_the_host(batch, source)
    for part in parts:
        # Written behind torch's back: autograd must not take it for what it has seen.
        torch.autograd.graph.increment_version(part.destination)
    return list(dict.fromkeys(source.warnings))


def _by_way_of_the_host(batch: Sequence[Part], source: _Source) -> None:
    # A function of its own, so that this memory is gone before the next one comes.
    staged = [torch.empty(p.destination.shape, dtype=p.destination.dtype) for p in batch]
    memory = [host_bytes(tensor) for tensor in staged]
    source.bring(batch, [each for each in memory if each is not None])
    for part, values in zip(batch, staged, strict=True):
        part.destination.copy_(values)


class _Source:
    """Where the values of parts come from: this process, or servers."""

    def __init__(
        self,
        parts: Sequence[Part],
        seed: int,
        target: str | None,
        backend: str | None,
        timeout: float | None,
        checkpoints: Folder | Checkpoints | None,
    ) -> None:
        self.warnings: list[str] = []
        self._seed, self._timeout = seed, timeout
        self._target, self._backend, self._checkpoints = target, backend, checkpoints
        # For all parts, since a rank may hold several of a matrix.
        self._cache = MatrixCache()
        self._chosen: Backend | None = None
        if parts and resolve_target(target) is None:
            # For all of them: a few alone would pass for little work, which NumPy does. What
            # stays on a GPU is best made there, however little it is.
            on_gpu = any(part.destination.is_cuda for part in parts)
            elements = None if on_gpu else sum(part.destination.numel() for part in parts)
            self._chosen = select(backend, elements)

    def make_on_devices(self, parts: Sequence[Part]) -> list[Part]:
        """Makes what can be made where it goes, on a GPU; returns the others."""
        backend = self._chosen
        if backend is None or not any(part.destination.is_cuda for part in parts):
            return list(parts)
        entries = self._request(parts).layout.entries
        return [
            part
            for part, entry in zip(parts, entries, strict=True)
            if not fill_device(backend, entry.tensor, part.destination)
        ]

    def bring(self, parts: Sequence[Part], memory: Sequence[NDArray[np.uint8]]) -> None:
        """Writes the values of each part into the bytes at the same place of `memory`."""
        request = self._request(parts)
        if self._chosen is None:
            self._download(request, Scattered(request.layout, memory))
            return
        file = open_file(request.layout, self._chosen, request.checkpoints)
        file = file.with_cache(self._cache)
        for entry, out in zip(request.layout.entries, memory, strict=True):
            file.fill(entry, out.view(entry.tensor.dtype.storage))

    def _request(self, parts: Sequence[Part]) -> Request:
        request = make_request(
            Plan({part.key: part.tensor for part in parts}, self._seed),
            seed=None,
            target=self._target,
            timeout=self._timeout,
            retry=None,
            credentials=None,
            backend=self._backend,
            checkpoints=self._checkpoints,
        )
        self.warnings += request.layout.warnings
        return request

    def _download(self, request: Request, sink: Sink) -> None:
        from initclient._transport import blocking

        assert request.service is not None
        said = blocking.download(request.layout, request.service, sink, None)
        self.warnings += request.news(said)


def _pieces(part: Part) -> Iterator[Part]:
    """The part as rectangles of no more bytes than are staged at a time."""
    bounds = part.tensor.slices
    if part.nbytes <= _STAGED_BYTES or not bounds:
        yield part
        return
    axis = next(i for i, size in enumerate(part.destination.shape) if size > 1)
    size = part.destination.shape[axis]
    count = min(size, -(-part.nbytes // _STAGED_BYTES))
    start: Any = bounds[axis][0]
    for first, last in ((size * i // count, size * (i + 1) // count) for i in range(count)):
        cut = (*bounds[:axis], (start + first, start + last), *bounds[axis + 1 :])
        piece = Part(
            f"{part.key}[{axis}:{first}]",
            replace(part.tensor, slices=cut),
            part.destination.narrow(axis, first, last - first),
        )
        yield from _pieces(piece)
