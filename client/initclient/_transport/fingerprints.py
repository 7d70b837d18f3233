"""Fingerprints of a plan's tensors: computed in this process, or asked from servers in turns.

What is asked next is decided here, without making a call: one Describe takes only so many
bytes, so a large plan is asked about in several, and a large tensor in parts, which add up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from initcore import Checkpoints, Fingerprint, Layout, Plan
from initcore.backends import select
from initcore.file import Progress, fingerprints_between, mixer
from initserve.v1 import service_pb2

from initclient._exceptions import LimitError, ServerError
from initclient._plan import lay_out
from initclient._source import open_file
from initclient._transport.faults import Fault, Verdict

# Made at a time in this process; a multiple of 8, so that no element is cut.
_PIECE_BYTES = 8 << 20

# Asked for in one call: some seconds on the slowest server.
_CALL_BYTES = 256 << 20

Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """A rectangular part of a plan's tensor.

    Attributes:
        name: the tensor's name.
        bounds: (start, stop) in each dimension.
    """

    name: str
    bounds: Bounds

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(stop - start for start, stop in self.bounds)

    def halves(self) -> tuple[Part, Part]:
        """Two parts that make it up, cut along its first dimension that can be cut."""
        axis = next(i for i, (start, stop) in enumerate(self.bounds) if stop - start > 1)
        start, stop = self.bounds[axis]
        middle = (start + stop) // 2
        first, second = (
            Part(self.name, (*self.bounds[:axis], cut, *self.bounds[axis + 1 :]))
            for cut in ((start, middle), (middle, stop))
        )
        return first, second


def wanted_parts(laid_out: Layout) -> list[Part]:
    """The parts that a plan asks for, in its order."""
    return [Part(entry.tensor.name, entry.tensor.bounds) for entry in laid_out.entries]


def compute(
    laid_out: Layout, checkpoints: Checkpoints | None, progress: Progress | None = None
) -> dict[str, Fingerprint]:
    """The fingerprints of what a plan asks for, made in this process, piece by piece."""
    elements = sum(entry.tensor.count for entry in laid_out.entries)
    chosen = select(None, elements=elements)
    file, mix = open_file(laid_out, chosen, checkpoints), mixer(chosen.name, elements)
    found = {entry.tensor.name: Fingerprint() for entry in laid_out.entries}
    begin, total = laid_out.data_begin, laid_out.size - laid_out.data_begin
    for low in range(begin, laid_out.size, _PIECE_BYTES):
        high = min(low + _PIECE_BYTES, laid_out.size)
        for name, part in fingerprints_between(file, low, high, mix=mix).items():
            found[name] += part
        if progress:
            progress(high - begin, total)
    return found


class Questions:
    """What to ask a server to learn the fingerprints of some parts of a plan's tensors.

    Args:
        laid_out: the plan's file; its slices do not matter.
        parts: the parts. Several may belong to one tensor.
        progress: called with the bytes of tensors answered for and in all.

    Attributes:
        found: the fingerprint of each part, complete when `next` returns None.
    """

    def __init__(
        self, laid_out: Layout, parts: Sequence[Part], progress: Progress | None = None
    ) -> None:
        self._plan = laid_out.plan
        self._sizes = {e.tensor.name: e.tensor.dtype.itemsize for e in laid_out.entries}
        self._progress = progress
        self._left = deque(enumerate(parts))
        self._asked: list[tuple[int, Part]] = []
        self._limit = _CALL_BYTES
        self._done = 0
        self._total = sum(map(self._nbytes, parts))
        self.found = [Fingerprint()] * len(parts)

    def next(self) -> Layout | None:
        """The plan to ask about next; None if everything is answered."""
        self._asked = []
        names: set[str] = set()
        size = 0
        while self._left:
            index, part = self._left[0]
            if self._nbytes(part) > self._limit and part.count > 1:
                self._left.popleft()
                self._left.extendleft((index, half) for half in reversed(part.halves()))
                continue
            size += self._nbytes(part)
            # Fingerprints depend on names, and a plan has each name once.
            if self._asked and (size > self._limit or part.name in names):
                break
            names.add(part.name)
            self._asked.append(self._left.popleft())
        if not self._asked:
            return None
        tensors = {
            part.name: replace(self._plan.tensors[part.name], slices=part.bounds)
            for _, part in self._asked
        }
        return lay_out(Plan(tensors, self._plan.seed), None, local=False)

    def answered(self, response: service_pb2.DescribeResponse) -> None:
        """Takes the answer."""
        for (index, part), tensor in zip(self._asked, response.tensors, strict=True):
            self.found[index] += Fingerprint.from_bytes(tensor.fingerprint)
            self._done += self._nbytes(part)
        if self._progress:
            self._progress(self._done, self._total)

    def refused(self, error: LimitError) -> None:
        """Takes a server's word that this was too much at once; `next` asks for less.

        Raises:
            LimitError: if less would not do.
        """
        limit = error.limit if error.reason == "MAX_FINGERPRINT_BYTES" else None
        if not limit or limit >= self._limit:
            raise error
        self._limit = limit
        self._left.extendleft(reversed(self._asked))

    def _nbytes(self, part: Part) -> int:
        return part.count * self._sizes[part.name]


def check_fingerprints(response: service_pb2.DescribeResponse, source: str) -> None:
    """Holds a server's answer against what was asked.

    Raises:
        Fault: if a fingerprint is missing.
    """
    if any(len(tensor.fingerprint) != 16 for tensor in response.tensors):
        error = ServerError(
            f"{source} computes no fingerprints; it is a server of an older version",
            "UNIMPLEMENTED",
        )
        raise Fault(error, Verdict.UNFIT)
