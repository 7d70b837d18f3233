"""The parts of a global array on the devices of this process, each part once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jax

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
        bounds = tuple(part.indices(size)[:2] for part, size in zip(index, leaf.shape, strict=True))
        boxes.setdefault(bounds, []).append(device)
    kind = leaf.sharding.memory_kind
    return Shards({bounds: tuple(devices) for bounds, devices in boxes.items()}, kind)
