"""From parts of a plan's tensors to arrays on the devices that hold them.

jax.make_array_from_callback would collect all parts of an array on the host before it moves
the first one. Here they are made and moved a limited number of bytes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from initcore import Checkpoints, Plan, Tensor
from initcore.backends import Backend, select
from initcore.dtypes import DTYPES
from initcore.generate import MatrixCache
from initcore.machine import new_memory
from initcore.resolve import Resolved
from jax.sharding import SingleDeviceSharding
from numpy.typing import NDArray

from initclient._compute import batches, default_jax_device, make_jax
from initclient._files import Scattered
from initclient._source import (
    Credentials,
    Request,
    Retry,
    Target,
    make_request,
    open_file,
    resolve_target,
)

# On the host at a time: little beside a model, much beside the cost of a request.
_BATCH_BYTES = 64 << 20

# Where JAX takes an array on the CPU without a copy.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Part:
    """A part of a tensor, and who holds it.

    Attributes:
        key: a name for it that no other part has.
        tensor: the plan's tensor with the part as its slices.
        devices: where it goes; None is JAX's default device.
        memory_kind: which memory of the devices; None is their default one.
    """

    key: str
    tensor: Tensor
    devices: tuple[jax.Device | None, ...]
    memory_kind: str | None

    @property
    def count(self) -> int:
        """Elements of the part."""
        count = 1
        for start, stop in self.tensor.slices or ():
            assert start is not None
            assert stop is not None
            count *= stop - start
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.count * DTYPES[self.tensor.dtype].itemsize


def place(
    parts: Sequence[Part],
    seed: int,
    *,
    target: Target | None,
    backend: str | None,
    timeout: float | None,
    retry: Retry | None,
    credentials: Credentials | None,
    streams: int | None,
    checkpoints: Checkpoints | None,
) -> tuple[list[list[jax.Array]], list[str]]:
    """Makes parts, or has a server make them, and puts them on their devices.

    Args:
        parts: the parts.
        seed: the plan's seed.
        target: address of a server, as for `ic.fetch`, like the arguments after it.
        backend: what computes in this process.
        timeout: seconds for each request to a server.
        retry: when to go on after a failure.
        credentials: certificates and tokens.
        streams: parallel streams from servers.
        checkpoints: what this process reads, if it makes the values.

    Returns:
        For each part its arrays, one for each of its devices in their order; and what there
        is to warn of, as sentences.
    """
    backend_here = None
    if parts and resolve_target(target) is None:
        # For all of them: a few alone would pass for little work, which NumPy does. What
        # stays on a GPU is best made there, however little it is.
        devices = {device or default_jax_device() for part in parts for device in part.devices}
        on_gpu = any(device.platform == "gpu" for device in devices)
        backend_here = select(backend, None if on_gpu else sum(part.count for part in parts))
    # For all parts, since a process may hold several of a matrix.
    cache = MatrixCache()
    placed: list[list[jax.Array]] = []
    warnings: list[str] = []
    under_way: list[list[jax.Array]] = []
    for batch in batches(parts, _BATCH_BYTES):
        request = make_request(
            Plan({part.key: part.tensor for part in batch}, seed),
            seed=None,
            target=target,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            backend=backend,
            streams=streams,
            checkpoints=checkpoints,
        )
        warnings += request.layout.warnings
        if backend_here is None:
            values = _downloaded(request, warnings)
        else:
            values = _computed(request, backend_here, cache, batch)
        moved = [_put(part, value) for part, value in zip(batch, values, strict=True)]
        # The host's memory is free again once a batch has reached its devices; while it is on
        # the way the next one is made.
        for array in (array for arrays in under_way for array in arrays):
            array.block_until_ready()
        under_way = moved
        placed += moved
    return placed, list(dict.fromkeys(warnings))


def _computed(
    request: Request, backend: Backend, cache: MatrixCache, batch: Sequence[Part]
) -> Iterator[Any]:
    layout = request.layout
    file = open_file(layout, backend, request.checkpoints).with_cache(cache)
    for entry, part in zip(layout.entries, batch, strict=True):
        values = make_jax(backend, entry.tensor, part.devices[0] or default_jax_device())
        if values is None:
            memory = _aligned(entry.tensor.nbytes)
            file.fill(entry, memory.view(entry.tensor.dtype.storage))
            values = _shaped(memory, entry.tensor)
        yield values


def _downloaded(request: Request, warnings: list[str]) -> Iterator[NDArray[Any]]:
    from initclient._transport import blocking

    assert request.service is not None
    tensors = [entry.tensor for entry in request.layout.entries]
    memory = [_aligned(tensor.nbytes) for tensor in tensors]
    sink = Scattered(request.layout, memory)
    warnings += request.news(blocking.download(request.layout, request.service, sink, None))
    yield from map(_shaped, memory, tensors)


def _shaped(memory: NDArray[np.uint8], tensor: Resolved) -> NDArray[Any]:
    return memory.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


def _put(part: Part, value: Any) -> list[jax.Array]:
    arrays = []
    for device in part.devices:
        where: Any = device
        if device is not None and part.memory_kind is not None:
            where = SingleDeviceSharding(device, memory_kind=part.memory_kind)
        arrays.append(jax.device_put(value, where))
    return arrays


def _aligned(size: int) -> NDArray[np.uint8]:
    memory = new_memory(size + _ALIGNMENT)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size]
