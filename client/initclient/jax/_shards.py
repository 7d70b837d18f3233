"""The parts of a global array on the devices of this process, each part once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np

from initclient.jax._leaves import Leaf

Bounds: TypeAlias = tuple[tuple[int, int], ...]
"""(start, stop) in each dimension of the global array."""


@dataclass(frozen=True)
class Shards:
    """The parts of a leaf that this process holds.

    Attributes:
        boxes: for each distinct part, the devices that hold it; None is JAX's default device.
        memory_kind: the kind of memory of the devices; None is their default.
    """

    boxes: Mapping[Bounds, tuple[jax.Device | None, ...]]
    memory_kind: str | None = None


def shards_of(leaf: Leaf) -> Shards:
    """The parts of a leaf that this process holds.

    Raises:
        ValueError: for a sharding that does not fit the shape, or has no devices.
    """
    if leaf.sharding is None:
        return Shards({tuple((0, size) for size in leaf.shape): (None,)})
    boxes: dict[Bounds, list[jax.Device | None]] = {}
    for device, index in leaf.sharding.addressable_devices_indices_map(leaf.shape).items():
        assert index is not None
        boxes.setdefault(_bounds(index, leaf.shape), []).append(device)
    kind = leaf.sharding.memory_kind
    return Shards({bounds: tuple(devices) for bounds, devices in boxes.items()}, kind)


@dataclass(frozen=True)
class Copies:
    """A part of a leaf, and the arrays of this process that hold it.

    Attributes:
        bounds: the part.
        arrays: for each device that holds it, its elements.
        devices: the names of these devices; "" where the leaf lies on one device alone.
    """

    bounds: Bounds
    arrays: tuple[Any, ...]
    devices: tuple[str, ...]


def copies_of(leaf: Leaf) -> list[Copies]:
    """The parts of an array that this process holds, with every copy.

    Raises:
        ValueError: for a leaf without values.
    """
    if isinstance(leaf.value, jax.Array):
        is_spread = len(leaf.value.sharding.device_set) > 1
        held: dict[Bounds, list[tuple[Any, str]]] = {}
        for shard in leaf.value.addressable_shards:
            bounds = _bounds(shard.index, leaf.shape)
            device = str(shard.device) if is_spread else ""
            held.setdefault(bounds, []).append((shard.data, device))
        return [Copies(bounds, *zip(*copies, strict=True)) for bounds, copies in held.items()]
    if isinstance(leaf.value, np.ndarray | np.generic):
        return [Copies(tuple((0, size) for size in leaf.shape), (leaf.value,), ("",))]
    raise ValueError(f"{leaf.name!r} is {leaf.value!r}, which has no values to verify; give arrays")


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> Bounds:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
