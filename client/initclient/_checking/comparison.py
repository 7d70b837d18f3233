"""Compares elements with a plan's: fingerprints of both, and the place of the first difference.

If this process makes the plan's values, it compares blocks bit by bit, so that a difference has
a place and equal blocks are mixed once. Otherwise it computes only the fingerprint of the
elements, and a server sends the plan's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from initcore import Entry, Fingerprint
from initcore.file import Fingerprinter, Progress, mixer
from numpy.typing import NDArray

from initclient._checking.report import Bounds
from initclient._source import Request


@dataclass
class Compared:
    """The result for one part of a tensor.

    Attributes:
        bounds: the part.
        found: the fingerprint of the compared elements.
        expected: the plan's fingerprint of the part, if this process makes the values.
        differing: how many elements differ, if this process makes the values.
        first: position in the whole tensor of the first element that differs, if any.
        device: the device that holds the compared elements, where that says more than the process.
    """

    bounds: Bounds
    found: Fingerprint = field(default_factory=Fingerprint)
    expected: Fingerprint = field(default_factory=Fingerprint)
    differing: int = 0
    first: tuple[int, ...] | None = None
    device: str = ""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(stop - start for start, stop in self.bounds)


class Comparison:
    """Compares parts of tensors with a plan's, block by block.

    Args:
        request: a plan of these parts. If its source is this process, the plan's values are made
            here; otherwise only the fingerprint of the compared elements is computed.
        progress: called with the bytes compared and in all.

    Raises:
        PlanError: if this process makes the values, and a checkpoint lacks a tensor of the plan.
    """

    def __init__(self, request: Request, progress: Progress | None = None) -> None:
        layout, name, self._file = request.layout, None, None
        if request.service is None:
            # Chosen once for all parts: for small ones alone, "auto" would choose NumPy.
            backend = request.backend()
            name, self._file = backend.name, request.open(backend)
        self._mix = mixer(name)
        self._progress = progress
        self._done, self._total = 0, layout.size - layout.data_begin

    def compare(self, name: str, entry: Entry, blocks: Iterator[NDArray[Any]]) -> Compared:
        """Compares one part.

        Args:
            name: the tensor's name in the plan.
            entry: the part, in the layout.
            blocks: the elements to compare, in row-major order, as 1-D arrays of their bits.
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
            # A tensor compared only in part must not count as agreeing.
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
            result.first = position_of(first + int(np.argmax(differ)), entry.tensor.bounds)
        result.differing += count
        return maker.stretch(first, bits)


def position_of(local: int, bounds: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The position in the whole tensor of a part's element."""
    place = []
    for start, stop in reversed(bounds):
        local, inside = divmod(local, stop - start)
        place.append(start + inside)
    return tuple(reversed(place))
