"""The processes of jax.distributed that hold a tree together, with two collectives."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """All processes of jax.distributed, or this process alone.

    Attributes:
        rank: this process's number.
        ranks: the numbers of all.
        is_alone: whether this is the only process.
    """

    rank: int = 0
    ranks: tuple[int, ...] = (0,)
    is_alone: bool = True

    @classmethod
    def of(cls, local: bool) -> Processes:
        """All processes; this one alone if `local`, or without jax.distributed."""
        count = jax.process_count()
        if local or count == 1:
            return cls()
        return cls(jax.process_index(), tuple(range(count)), is_alone=False)

    def gather(self, value: _T) -> list[_T]:
        """The values of all processes, in order. A collective call."""
        if self.is_alone:
            return [value]
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        # 32 bits: JAX has no others where 64-bit types are switched off.
        sizes = _gathered(np.array([len(own)], np.int32))[:, 0]
        padded = np.zeros(int(sizes.max()), np.uint8)
        padded[: len(own)] = own
        rows = _gathered(padded)
        return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]

    def add(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """The sums of all processes' integers, element by element. A collective call."""
        if self.is_alone or not rows:
            return [list(row) for row in rows]
        own = np.array(rows, np.int64)
        # As bytes, since JAX cuts 64-bit integers.
        every = _gathered(own.view(np.uint8)).view(np.int64)
        added: list[list[int]] = every.sum(axis=0).tolist()
        return added


def _gathered(own: NDArray[Any]) -> NDArray[Any]:
    """The arrays of all processes, of one shape, along a new first axis."""
    from jax.experimental import multihost_utils

    return np.ascontiguousarray(multihost_utils.process_allgather(own))
