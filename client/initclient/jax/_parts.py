"""Makes parts of a plan's tensors as arrays on their devices.

jax.make_array_from_callback would collect all parts of an array on the host before it moves the
first one. Here batches of limited size are made and moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from initcore import Entry, VirtualFile
from initcore.file import Progress
from initcore.machine import new_memory
from initcore.resolve import Resolved
from jax.sharding import SingleDeviceSharding
from numpy.typing import NDArray

from initclient._compute import Track, batches, default_jax_device, make_jax
from initclient._source import Request

# On the host at a time: small against a model, large against the cost of a request.
_BATCH_BYTES = 64 << 20

# JAX takes an array with this alignment on the CPU without a copy.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Placement:
    """A part of a plan's tensor, and the devices that hold it.

    Attributes:
        entry: the part, in the layout.
        devices: its devices; None is JAX's default device.
        memory_kind: the kind of memory of the devices; None is their default.
    """

    entry: Entry
    devices: tuple[jax.Device | None, ...]
    memory_kind: str | None

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.entry.tensor.nbytes


def place(
    request: Request, placements: Sequence[Placement], progress: Progress | None = None
) -> tuple[list[list[jax.Array]], list[str]]:
    """Makes or downloads parts, and puts them on their devices.

    Args:
        request: the plan of the parts.
        placements: its entries, in order, with their devices.
        progress: called with the bytes made and in all.

    Returns:
        For each part its arrays, one for each of its devices, in order; and the warnings of the
        plan and of the servers.

    Raises:
        InitserveError: if no server delivers the values.
    """
    track = Track(sum(one.nbytes for one in placements), progress)
    warnings: list[str] = []
    file = None
    if request.service is None:
        devices = {device or default_jax_device() for one in placements for device in one.devices}
        file = request.open(request.backend(on_gpu=any(d.platform == "gpu" for d in devices)))
    placed: list[list[jax.Array]] = []
    under_way: list[list[jax.Array]] = []
    for batch in batches(placements, _BATCH_BYTES):
        if file is None:
            values: Iterable[Any] = _downloaded(request, batch, track, warnings)
        else:
            values = _computed(file, batch, track)
        moved = [_put(one, value) for one, value in zip(batch, values, strict=True)]
        # A batch frees its host memory when it has reached its devices; the next one is made
        # during that transfer.
        for array in (array for arrays in under_way for array in arrays):
            array.block_until_ready()
        under_way = moved
        placed += moved
    return placed, [*request.layout.warnings, *request.new_warnings(warnings)]


def _computed(file: VirtualFile, batch: Sequence[Placement], track: Track) -> Iterator[Any]:
    for one in batch:
        tensor = one.entry.tensor
        values = make_jax(file.backend, tensor, one.devices[0] or default_jax_device())
        if values is None:
            memory = _aligned(tensor.nbytes)
            file.fill(one.entry, memory.view(tensor.dtype.storage))
            values = _shaped(memory, tensor)
        track.add(tensor.nbytes)
        yield values


def _downloaded(
    request: Request, batch: Sequence[Placement], track: Track, warnings: list[str]
) -> Iterator[NDArray[Any]]:
    from initclient._transport.into_memory import download_ranges

    memory = [_aligned(one.nbytes) for one in batch]
    places = [(one.entry.begin, each) for one, each in zip(batch, memory, strict=True)]
    warnings += download_ranges(request, places, track)
    for one, each in zip(batch, memory, strict=True):
        yield _shaped(each, one.entry.tensor)


def _shaped(memory: NDArray[np.uint8], tensor: Resolved) -> NDArray[Any]:
    return memory.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


def _put(one: Placement, value: Any) -> list[jax.Array]:
    arrays = []
    for device in one.devices:
        where: Any = device
        if device is not None and one.memory_kind is not None:
            where = SingleDeviceSharding(device, memory_kind=one.memory_kind)
        arrays.append(jax.device_put(value, where))
    return arrays


def _aligned(size: int) -> NDArray[np.uint8]:
    memory = new_memory(size + _ALIGNMENT)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size]
