"""Checks the messages of a download, one by one, and writes their bytes to the sink.

No calls here, and no gRPC: a shell makes the calls, feeds the messages that arrive, and reports
the end of the stream. After a failure it takes another request, which continues after the last
good byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from initcore import STREAM_VERSION, Layout
from initcore.show import printable, printable_texts
from initcore.wire import crc32c
from initserve.v1 import service_pb2

from initclient._exceptions import IntegrityError
from initclient._files import Sink
from initclient._source import Request
from initclient._transport.faults import Fault, Verdict
from initclient._transport.messages import IncomingChunk, parse_response

# A digest has 64 characters.
_SHOWN_DIGEST = 80

_OTHER_VERSION = "is it a server of the same version of initserve?"


class Receiver:
    """Receives a range of a layout's file.

    Args:
        request: the file, as the client computed it.
        sink: takes the bytes.
        begin: position of the range's first byte.
        end: position past its last one; None means the end of the file.

    Attributes:
        messages: how many messages it has been given.
        position: position of the next byte; all bytes from `begin` to it have arrived.
        source: the server's address, for messages.
        warnings: the server's warnings about the plan.
    """

    def __init__(
        self, request: Request, sink: Sink, begin: int = 0, end: int | None = None
    ) -> None:
        self.layout = layout = request.layout
        # A server that has the plan by name needs no copy of it.
        self._wanted: dict[str, Any] = (
            {"model": request.model, "seed": request.seed}
            if request.model
            else {"plan": request.message}
        )
        self.begin = self.position = begin
        self.end = layout.size if end is None else end
        self.source = ""
        self.warnings: tuple[str, ...] = ()
        self._sink = sink
        self.messages = 0
        self._informed = False
        self._answered = False

    @property
    def answered(self) -> bool:
        """Whether a server has sent the right file info."""
        return self._answered

    @property
    def complete(self) -> bool:
        """Whether the file info and every byte have arrived."""
        return self._answered and self.position == self.end

    def request(self, source: str) -> service_pb2.FetchRequest:
        """A request to `source` for the bytes that have not arrived; starts a new stream."""
        self.source = source
        self._informed = False
        return service_pb2.FetchRequest(
            **self._wanted,
            read_offset=self.position,
            read_limit=self.end - self.position if self.end < self.layout.size else 0,
            expected_digest=self.layout.digest,
        )

    def feed(self, raw: bytes) -> int:
        """Takes the next message of the stream, as it came from the wire.

        Returns:
            The number of good bytes in it.

        Raises:
            Fault: if it is not the expected message; none of its bytes are kept.
        """
        self.messages += 1
        try:
            message = parse_response(raw)
        except ValueError as error:
            raise self._damaged(f"{self.source} sent bytes that are {error}") from error
        if isinstance(message, service_pb2.Working):
            # A sign of life without content.
            return 0
        if isinstance(message, service_pb2.FileInfo) and not self._informed:
            check_info(message, self.layout, self.source)
            self.warnings = tuple(printable_texts(message.warnings, "warning"))
            self._informed = self._answered = True
            return 0
        if isinstance(message, IncomingChunk) and self._informed:
            return self._take(message)
        kind = "chunk" if isinstance(message, IncomingChunk) else "info" if message else None
        raise self._damaged(
            f"{self.source} sent a message out of order: {kind or 'an unknown one'} "
            f"{'after' if self._informed else 'before'} the file's info"
        )

    def finish(self) -> None:
        """Notes that the stream ended without an error.

        Raises:
            Fault: if bytes are missing.
        """
        if not self._informed or self.position < self.end:
            raise self._damaged(
                f"{self.source} ended the file early: {self.position} of {self.layout.size} "
                "bytes arrived"
            )

    def _take(self, chunk: IncomingChunk) -> int:
        data, offset = chunk.data, self.position
        count = len(data)
        if chunk.offset != offset:
            raise self._damaged(
                f"{self.source} sent a chunk for byte {chunk.offset} where byte {offset} must "
                "come next"
            )
        if not count:
            # It would keep a stream alive without progress.
            raise self._damaged(f"{self.source} sent a chunk without bytes")
        if offset + count > self.end:
            raise self._damaged(
                f"{self.source} sent bytes up to {offset + count}, past the end {self.end} of the "
                "requested range"
            )
        found = crc32c(data)
        if found != chunk.crc32c:
            raise self._damaged(
                f"the {count} bytes from byte {offset} on were damaged in transit from "
                f"{self.source}: their CRC-32C is {found:08x}, not {chunk.crc32c:08x}"
            )
        header = self.layout.header[offset : offset + count]
        if header and data[: len(header)] != header:
            raise Fault(
                IntegrityError(
                    f"{self.source} sent another header than this plan has; {_OTHER_VERSION}"
                ),
                Verdict.DIFFERS,
            )
        self._sink.write_at(offset, data)
        self.position += count
        return count

    def _damaged(self, text: str) -> Fault:
        return Fault(IntegrityError(text), Verdict.AGAIN)


def check_info(info: service_pb2.FileInfo, layout: Layout, source: str) -> None:
    """Compares a server's file info with the layout.

    Raises:
        Fault: if stream version, digest or size differ.
    """
    for what, theirs, ours in (
        ("stream version", info.stream_version, STREAM_VERSION),
        ("plan digest", info.plan_digest, layout.digest),
        ("file size", info.total_size, layout.size),
    ):
        if theirs != ours:
            raise Fault(
                IntegrityError(
                    f"{source} has {what} {printable(str(theirs), _SHOWN_DIGEST)} for this plan "
                    f"where this client has {ours}; "
                    f"{_OTHER_VERSION}"
                ),
                Verdict.DIFFERS,
            )


Check: TypeAlias = Callable[[service_pb2.DescribeResponse], object]
"""A further check of a description; raises an IntegrityError."""


def read_description(
    raw: bytes | None, layout: Layout, source: str, check: Check | None = None
) -> service_pb2.DescribeResponse:
    """A server's description, compared with the layout.

    Args:
        raw: the message; None for a call that ended well without one.
        layout: the layout of the plan's file.
        source: the server's address, for messages.
        check: a further check.

    Raises:
        Fault: if it is no description, or describes another file.
    """
    if raw is None:
        raise Fault(IntegrityError(f"{source} ended the call without an answer"), Verdict.AGAIN)
    try:
        response = service_pb2.DescribeResponse.FromString(raw)
    except DecodeError as error:
        text = f"{source} sent bytes that are not a message of this service"
        raise Fault(IntegrityError(text), Verdict.AGAIN) from error
    check_description(response, layout, source)
    try:
        if check is not None:
            check(response)
    except IntegrityError as error:
        raise Fault(error, Verdict.DIFFERS) from error
    return response


def check_description(response: service_pb2.DescribeResponse, layout: Layout, source: str) -> None:
    """Compares a server's description with the layout.

    Raises:
        Fault: if it describes another file.
    """
    check_info(response.info, layout, source)
    if len(response.tensors) != len(layout.entries):
        raise Fault(
            IntegrityError(
                f"{source} describes {len(response.tensors)} tensors of this plan, which has "
                f"{len(layout.entries)}; {_OTHER_VERSION}"
            ),
            Verdict.DIFFERS,
        )
    if response.header != layout.header:
        raise Fault(
            IntegrityError(f"{source} has another header for this plan than this client"),
            Verdict.DIFFERS,
        )
