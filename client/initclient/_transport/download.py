"""The logic of a download, without I/O: ranges, streams and their next calls.

A transfer divides the missing ranges of a file among its streams. A shell runs a loop for each
stream: it takes the next attempt, requests the rest of the range, feeds the messages that
arrive, and reports a failure, until the ranges are complete or the stream gives up. Streams
share the state of the replicas, and the deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

from initcore.file import BLOCK, Progress
from initserve.v1 import service_pb2

from initclient._files import Sink
from initclient._source import Request
from initclient._transport.failover import Attempt, Attempts, Call
from initclient._transport.faults import Fault
from initclient._transport.receiver import Receiver

Range: TypeAlias = tuple[int, int]
"""(begin, end): position of the first byte, and the one past the last."""

# A server makes one chunk of a stream while it sends the one before, so two streams keep two of
# its CPUs busy; several servers have more CPUs. Below this size, a second call costs more time
# than it saves. benchmarks/streams.py measures it.
_PARALLEL_FROM = 64 << 20
_AUTOMATIC_STREAMS = range(2, 5)


def stream_count(size: int, wanted: int | None, servers: int = 1) -> int:
    """Number of streams for a file: `wanted`, but none shorter than a block."""
    if wanted is None:
        few, many = _AUTOMATIC_STREAMS[0], _AUTOMATIC_STREAMS[-1]
        wanted = min(max(few, servers), many) if size >= _PARALLEL_FROM else 1
    return max(1, min(wanted, size // BLOCK))


def ranges(size: int, count: int) -> list[Range]:
    """Cuts 0 .. size into ranges of about the same length, as (begin, end)."""
    blocks = -(-size // BLOCK)
    cuts = [min(size, blocks * index // count * BLOCK) for index in range(count)]
    return list(zip(cuts, [*cuts[1:], size], strict=True))


def shares(missing: Sequence[Range], count: int) -> list[list[Range]]:
    """Divides ranges of a file, in order, among `count` streams of about equal size."""
    found = []
    for first, last in ranges(_total(missing), count):
        # first, last: positions in the missing ranges joined into one.
        share, position = [], 0
        for begin, end in missing:
            low, high = max(first - position, 0), min(last - position, end - begin)
            if low < high:
                share.append((begin + low, begin + high))
            position += end - begin
        found.append(share)
    return found


def _total(missing: Sequence[Range]) -> int:
    return sum(end - begin for begin, end in missing)


class Transfer:
    """The download of a layout's file.

    Args:
        request: the file, and the service that has it.
        sink: takes its bytes.
        now: the time of a monotonic clock.
        progress: called with the bytes done and in all; never by two streams at once.
        missing: the ranges to receive, in order; None means the whole file.

    Attributes:
        request: the file, and the service that has it.
        streams: its parts; a shell runs a loop for each.
    """

    def __init__(
        self,
        request: Request,
        sink: Sink,
        now: float,
        progress: Progress | None = None,
        missing: Sequence[Range] | None = None,
    ) -> None:
        layout, service = request.layout, request.service
        assert service is not None
        wanted = [(0, layout.size)] if missing is None else missing
        self._present = layout.size - _total(wanted)
        self.request = request
        self._layout = layout
        self._progress = progress
        self._lock = threading.Lock()
        call = Call.to(service.addresses, service.retry, service.timeout, now)
        call.arrived = self.arrived
        count = stream_count(_total(wanted), service.streams, len(service.addresses))
        self.streams = []
        for index, share in enumerate(shares(wanted, count)):
            first, *later = (Receiver(request, sink, begin, end) for begin, end in share)
            self.streams.append(Stream(self, first, Attempts(call, index), later))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The servers' warnings about the plan."""
        texts = (text for stream in self.streams for one in stream.all for text in one.warnings)
        return tuple(dict.fromkeys(texts))

    def close(self) -> None:
        """Drops the references to the sink, so that its memory is freed at once."""
        # Streams and their transfer form a reference cycle.
        self.streams.clear()

    def arrived(self) -> str:
        """The bytes that arrived, such as "3 of 10 bytes"; empty before the first answer."""
        if not any(one.answered for stream in self.streams for one in stream.all):
            return ""
        return f"{self._done()} of {self._layout.size} bytes"

    def report(self) -> None:
        """Calls `progress`."""
        if self._progress:
            with self._lock:
                self._progress(self._done(), self._layout.size)

    def _done(self) -> int:
        received = (one.position - one.begin for stream in self.streams for one in stream.all)
        return self._present + sum(received)


class Stream:
    """One range of a transfer, or several, one after the other.

    Args:
        transfer: the transfer.
        receiver: receives the first range.
        attempts: the calls.
        later: the receivers of the other ranges.

    Attributes:
        receiver: the current receiver.
        all: all receivers, in order.
    """

    def __init__(
        self,
        transfer: Transfer,
        receiver: Receiver,
        attempts: Attempts,
        later: Sequence[Receiver] = (),
    ) -> None:
        self.transfer = transfer
        self.receiver = receiver
        self.all = (receiver, *later)
        self._later = list(later)
        self._attempts = attempts

    def next(self, now: float) -> Attempt | None:
        """The next call; None if all ranges are complete.

        Raises:
            InitserveError: if no time or no usable server is left.
        """
        while self.receiver.complete:
            if not self._later:
                return None
            self.receiver = self._later.pop(0)
            # A new range starts with fresh counts: no call for it has failed.
            self._attempts = Attempts(self._attempts.call, self._attempts.first)
        return self._attempts.next(now)

    def request(self, attempt: Attempt) -> service_pb2.FetchRequest:
        """The request of an attempt: the rest of the range."""
        return self.receiver.request(attempt.source)

    def remaining(self, now: float) -> float | None:
        """Seconds that the call may take; None means no limit."""
        return self._attempts.call.remaining(now)

    def feed(self, raw: bytes, now: float | None = None) -> None:
        """Takes a message, which arrived at the time `now`.

        Raises:
            Fault: if it is not the expected message, or good bytes have not come for too long.
        """
        if self.receiver.feed(raw):
            self._attempts.progressed(now)
            self.transfer.report()
        elif now is not None:
            self._attempts.check_stall(now)

    def finish(self) -> None:
        """Notes that the call ended without an error.

        Raises:
            Fault: if bytes are missing.
        """
        self.receiver.finish()

    def failed(self, fault: Fault, now: float) -> None:
        """Notes that the call failed.

        Raises:
            InitserveError, PlanError: if the stream gives up.
        """
        # If every byte has arrived, the end of the call does not matter.
        if not self.receiver.complete:
            self._attempts.failed(fault, now)
