"""Elements that are there, held against a plan's: fingerprints of both, and where they differ.

Where this process makes the plan's values itself, blocks of both are compared bit by bit, so
that a difference has a place and equal blocks are mixed once. Otherwise only the fingerprint of
what is there is computed, and somebody else knows the plan's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from initcore import Checkpoints, Entry, Fingerprint, Layout
from initcore.backends import select
from initcore.file import Fingerprinter, Progress, mixer
from numpy.typing import NDArray

from initclient._checking.report import Bounds
from initclient._source import open_file


@dataclass
class Compared:
    """What became of one part of a tensor.

    Attributes:
        bounds: the part.
        found: the fingerprint of what is there.
        expected: the plan's fingerprint of the part, if this process makes the values.
        differing: how many elements differ, likewise.
        first: position in the whole tensor of the first one, if there is one.
    """

    bounds: Bounds
    found: Fingerprint = field(default_factory=Fingerprint)
    expected: Fingerprint = field(default_factory=Fingerprint)
    differing: int = 0
    first: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """Elements of the part."""
        return math.prod(stop - start for start, stop in self.bounds)


class Comparison:
    """Compares parts of tensors with a plan's, block by block.

    Args:
        laid_out: a plan of these parts.
        backend: what makes the plan's values, as for `fetch`.
        in_process: whether this process makes them.
        checkpoints: what it reads for those that come from checkpoints.
        progress: called with the bytes compared and in all.

    Raises:
        PlanError: if this process makes them, and a checkpoint does not have what the plan
            takes from it.
    """

    def __init__(
        self,
        laid_out: Layout,
        backend: str | None,
        *,
        in_process: bool,
        checkpoints: Checkpoints | None,
        progress: Progress | None = None,
    ) -> None:
        # By all of them: small tensors alone would pass for little work, which NumPy does.
        elements = sum(entry.tensor.count for entry in laid_out.entries)
        self._file = None
        if in_process:
            chosen = select(backend, elements=elements)
            backend = chosen.name
            self._file = open_file(laid_out, chosen, checkpoints)
        self._mix = mixer(backend, elements)
        self._progress = progress
        self._done, self._total = 0, laid_out.size - laid_out.data_begin

    def compare(self, name: str, entry: Entry, blocks: Iterator[NDArray[Any]]) -> Compared:
        """Compares one part.

        Args:
            name: the tensor's name in the plan.
            entry: the part, in the layout.
            blocks: the elements that are there, in row-major order, as 1-D arrays of their
                bits.
        """
        tensor = entry.tensor
        result = Compared(tensor.bounds)
        maker = Fingerprinter(name, tensor.shape, tensor.bounds, self._mix)
        first = 0
        for block in blocks:
            part = maker.stretch(first, block)
            result.found += part
            if self._file is not None:
                result.expected += self._expected(entry, maker, first, block, part, result)
            first += len(block)
            self._done += block.nbytes
            if self._progress:
                self._progress(self._done, self._total)
        if first != tensor.count:
            # A tensor that was looked at in part agrees with nothing.
            raise AssertionError(f"{name}: {first} of {tensor.count} elements were compared")
        return result

    def _expected(
        self,
        entry: Entry,
        maker: Fingerprinter,
        first: int,
        block: NDArray[Any],
        part: Fingerprint,
        result: Compared,
    ) -> Fingerprint:
        assert self._file is not None
        made = self._file.read(entry.begin + first * block.itemsize, block.nbytes)
        bits = np.frombuffer(made, dtype=block.dtype)
        differ = bits != block
        count = int(np.count_nonzero(differ))
        if not count:
            return part
        if not result.differing:
            result.first = _position(first + int(np.argmax(differ)), entry.tensor.bounds)
        result.differing += count
        return maker.stretch(first, bits)


def _position(local: int, bounds: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The position in the whole tensor of a part's element."""
    place = []
    for start, stop in reversed(bounds):
        local, inside = divmod(local, stop - start)
        place.append(start + inside)
    return tuple(reversed(place))
