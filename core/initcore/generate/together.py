"""Small tensors filled together, in one call of the backend.

A call for each would take longer than the elements of most: models of experts have 100,000 tensors
of a thousand elements. Tensors of one kind, which differ in name alone, are collected in one group.
"""

from __future__ import annotations

from collections.abc import Hashable
from ctypes import addressof, c_char
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend, PiecesBackend
from initcore.generate.regions import region_of
from initcore.resolve import Resolved, Sampled
from initcore.stream import VALUE, Pieces, derive_all

# Larger tensors are worth a call, and are shared among threads.
_SMALL = 1 << 18

# Elements after which a collection is filled: all threads have work, and progress shows.
_ENOUGH = 1 << 22


class _Group(NamedTuple):
    """Tensors of one kind; the first stands for what they share."""

    first: Resolved
    content: Sampled
    names: list[str]
    outs: list[int]


class Together:
    """Small tensors that wait until they are filled together.

    Args:
        backend: what draws the samples.
    """

    def __init__(self, backend: Backend) -> None:
        self._given = backend
        self._groups: dict[Hashable, _Group] = {}
        self._elements = 0

    @cached_property
    def _backend(self) -> PiecesBackend | None:
        # To look for a protocol's methods takes 40 us; most reads have no small tensor.
        return self._given if isinstance(self._given, PiecesBackend) else None

    def add(self, tensor: Resolved, out: NDArray[Any]) -> bool:
        """Takes a tensor, all elements of its wanted part; False if it has to be filled alone.

        Args:
            tensor: the tensor.
            out: as `Generator.fill` takes it; it must live until `fill` was called.
        """
        content = tensor.content
        if (
            not isinstance(content, Sampled)
            or tensor.zero_rows
            or not 0 < tensor.count <= _SMALL
            or self._backend is None
        ):
            return False
        # What is kept of a tensor lives as long as the group, so no other object has its id. Equal
        # values of other objects are a group of their own, which costs a little and is right.
        key = id(content), tensor.seed, id(tensor.dtype), id(tensor.shape), id(tensor.bounds)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(tensor, content, [], [])
        group.names.append(tensor.stream_name)
        # NumPy's own attributes for the address take four to nine times as long.
        group.outs.append(addressof(c_char.from_buffer(out.data)))
        self._elements += tensor.count
        if self._elements >= _ENOUGH:
            self.fill()
        return True

    def fill(self) -> None:
        """Fills all that were added."""
        groups, self._groups, self._elements = self._groups.values(), {}, 0
        if groups and self._backend is not None:
            self._backend.fill_pieces([_pieces(group) for group in groups])


def _pieces(group: _Group) -> Pieces:
    tensor = group.first
    # So few elements are the runs of one step.
    ((_, runs),) = region_of(tensor.shape, tensor.bounds).runs(0, tensor.count)
    return Pieces(
        group.content.draw,
        tensor.dtype.name,
        runs,
        derive_all(VALUE, tensor.seed, group.names),
        np.array(group.outs, dtype=np.uintp),
    )
