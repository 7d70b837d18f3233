"""Fingerprints of a plan's tensors from servers, in several calls.

Chooses the plan of each call, without I/O: one Describe covers a limited number of bytes, so a
large plan takes several calls, and a large tensor is split into regions, whose fingerprints add
up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from initcore import Fingerprint, Layout, Plan
from initcore.file import Progress
from initserve.v1 import service_pb2

from initclient._exceptions import LimitError, ServerError
from initclient._plan import Region, lay_out
from initclient._transport.faults import Fault, Verdict

# Bytes in one call: some seconds of work on the slowest server.
_CALL_BYTES = 256 << 20

# A server with a lower limit than this would take hours for the calls alone.
_MOST_CALLS = 1_000_000


class FingerprintQueries:
    """Splits a request for fingerprints of regions of a plan's tensors into calls.

    Args:
        layout: the plan's file; its slices do not matter.
        regions: the regions. Several may belong to one tensor.
        progress: called with the bytes of tensors done and in all.

    Attributes:
        found: the fingerprint of each region, complete when `next` returns None.
    """

    def __init__(
        self, layout: Layout, regions: Sequence[Region], progress: Progress | None = None
    ) -> None:
        self._plan = layout.plan
        self._sizes = {e.tensor.name: e.tensor.dtype.itemsize for e in layout.entries}
        self._progress = progress
        self._left = deque(enumerate(regions))
        self._current: list[tuple[int, Region]] = []
        self._limit = _CALL_BYTES
        self._done = 0
        self._total = sum(map(self._nbytes, regions))
        self.found = [Fingerprint()] * len(regions)

    def next(self) -> Layout | None:
        """The layout of the next call's plan; None if all fingerprints are there."""
        self._current = []
        names: set[str] = set()
        size = 0
        while self._left:
            index, region = self._left[0]
            if self._nbytes(region) > self._limit and region.count > 1:
                self._left.popleft()
                self._left.extendleft((index, half) for half in reversed(region.halves()))
                continue
            size += self._nbytes(region)
            # Fingerprints depend on names, and a plan has each name once.
            if self._current and (size > self._limit or region.name in names):
                break
            names.add(region.name)
            self._current.append(self._left.popleft())
        if not self._current:
            return None
        tensors = {
            region.name: replace(self._plan.tensors[region.name], slices=region.bounds)
            for _, region in self._current
        }
        return lay_out(Plan(tensors, self._plan.seed), None, local=False)

    def answered(self, response: service_pb2.DescribeResponse) -> None:
        """Adds the fingerprints of an answer."""
        for (index, region), tensor in zip(self._current, response.tensors, strict=True):
            self.found[index] += Fingerprint.from_bytes(tensor.fingerprint)
            self._done += self._nbytes(region)
        if self._progress:
            self._progress(self._done, self._total)

    def refused(self, error: LimitError) -> None:
        """Notes that a call exceeded the server's limit; `next` gives smaller ones.

        Raises:
            LimitError: if a smaller call would not help.
        """
        limit = error.limit if error.reason == "MAX_FINGERPRINT_BYTES" else None
        if not limit or limit >= self._limit or limit * _MOST_CALLS < self._total:
            raise error
        # At least by half, so that a server cannot make the client ask forever.
        self._limit = min(limit, max(1, self._limit // 2))
        self._left.extendleft(reversed(self._current))

    def _nbytes(self, region: Region) -> int:
        return region.count * self._sizes[region.name]


def check_fingerprints(response: service_pb2.DescribeResponse, source: str) -> None:
    """Checks that an answer has all fingerprints.

    Raises:
        Fault: if a fingerprint is missing.
    """
    if any(len(tensor.fingerprint) != 16 for tensor in response.tensors):
        error = ServerError(
            f"{source} computes no fingerprints; it is a server of an older version",
            "UNIMPLEMENTED",
        )
        raise Fault(error, Verdict.UNFIT)
