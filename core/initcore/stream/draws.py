"""Draws: how one 32-bit word becomes one float32 sample, and the positions to draw at.

Parameters are floats that float32 holds exactly: `initcore.resolve` rounded them.
docs/stream-v1.md gives each formula with its order of operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from initcore.stream.keys import Stream


@dataclass(frozen=True)
class UniformDraw:
    """mid + half * t(word), clamped to [low, high]."""

    mid: float
    half: float
    low: float
    high: float


@dataclass(frozen=True)
class NormalDraw:
    """mean + std * z(word)."""

    mean: float
    std: float


@dataclass(frozen=True)
class TruncNormalDraw:
    """mean + std * z(first + mulhi32(word, width)), clamped to [low, high].

    first and width are integers with width within [2^16, 2^32] and first + width <= 2^32.
    """

    first: int
    width: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class WordDraw:
    """The words themselves, as uint32."""


Draw: TypeAlias = UniformDraw | NormalDraw | TruncNormalDraw | WordDraw


@dataclass(frozen=True)
class Runs:
    """Positions in a global tensor: runs of equal length, one after another.

    Attributes:
        starts: uint64 array, the row-major index of the first element of each run.
        length: elements of each run.
    """

    starts: NDArray[np.uint64]
    length: int

    @property
    def count(self) -> int:
        """Elements of all runs together."""
        return len(self.starts) * self.length

    def positions(self, first: int = 0, count: int | None = None) -> NDArray[np.uint64]:
        """The global positions of some of the elements, one by one.

        Args:
            first: number of the first element, counted through the runs.
            count: how many; None means all from `first` on.

        Returns:
            uint64 array of length count.
        """
        count = self.count - first if count is None else count
        if len(self.starts) == 1:
            return np.arange(first, first + count, dtype=np.uint64) + np.uint64(self.starts[0])
        if self.length == 1:
            return self.starts[first : first + count]
        if count == self.count:
            return np.add.outer(self.starts, np.arange(self.length, dtype=np.uint64)).reshape(-1)
        run, offset = np.divmod(np.arange(first, first + count), self.length)
        starts: NDArray[np.uint64] = self.starts[run]
        return starts + offset.astype(np.uint64)


class Job(NamedTuple):
    """A draw from a stream, in an element type: the task of a backend.

    Attributes:
        draw: how words become samples.
        stream: which words.
        dtype: name of the element type of the output; "U32" for `WordDraw`.
    """

    draw: Draw
    stream: Stream
    dtype: str


class Pieces(NamedTuple):
    """Jobs that differ in their streams alone, each with a place for its elements.

    Attributes:
        draw: how words become samples.
        dtype: name of the element type of the output.
        runs: where in the global tensors.
        streams: uint32 array (n, 4), which words.
        outs: uintp array (n,), the addresses of host memory for `runs.count` elements each,
            aligned for the element type.
    """

    draw: Draw
    dtype: str
    runs: Runs
    streams: NDArray[np.uint32]
    outs: NDArray[np.uintp]
