"""Checks what a server sends, message by message, and puts it in its place.

No input or output here, and no gRPC: a blocking or an asyncio shell asks for the next
request, feeds the messages that arrive, and says when they end. After a failure it may
ask for a request again; that one continues where the last good byte was.
"""

from __future__ import annotations

from typing import Any, Protocol

import google_crc32c
import numpy as np
from initcore import STREAM_VERSION, Entry, Layout
from initcore.conversion import to_proto
from initserve.v1 import service_pb2
from numpy.typing import NDArray

from initclient._exceptions import IntegrityError


class Sink(Protocol):
    """Where bytes go, in order of their position in the file."""

    def write(self, data: bytes | memoryview, /) -> Any:
        """Takes the next bytes, all of them."""
        ...


class Receiver:
    """Receives the file of a layout.

    Args:
        layout: the file, as this side computed it.
        sink: takes the bytes.
        source: where they come from, for messages.

    Attributes:
        position: bytes that have arrived and are right.
        warnings: what the server says about the plan.
    """

    def __init__(self, layout: Layout, sink: Sink, source: str) -> None:
        self.layout = layout
        self.position = 0
        self.warnings: tuple[str, ...] = ()
        self._sink = sink
        self._source = source
        self._informed = False

    @property
    def arrived(self) -> str:
        """How far it came, as in "3 of 10 bytes"; empty if nobody has answered yet."""
        if not self._informed and not self.position:
            return ""
        return f"{self.position} of {self.layout.size} bytes"

    def request(self) -> service_pb2.FetchRequest:
        """Asks for everything that has not arrived; its answer starts a new stream."""
        self._informed = False
        return service_pb2.FetchRequest(
            plan=to_proto(self.layout.plan),
            read_offset=self.position,
            expected_digest=self.layout.digest,
        )

    def feed(self, message: service_pb2.FetchResponse) -> None:
        """Takes the next message of the stream.

        Raises:
            IntegrityError: if it is not what must come next; nothing of it was kept.
        """
        kind = message.WhichOneof("payload")
        if kind == "info" and not self._informed:
            check_info(message.info, self.layout, self._source)
            self.warnings = tuple(message.info.warnings)
            self._informed = True
        elif kind == "chunk" and self._informed:
            self._take(message.chunk)
        else:
            raise IntegrityError(
                f"{self._source} sent a message out of order: {kind or 'nothing known'} "
                f"{'after' if self._informed else 'before'} the file's info"
            )

    def finish(self) -> None:
        """Says that the stream ended without an error.

        Raises:
            IntegrityError: if bytes are missing.
        """
        if not self._informed or self.position < self.layout.size:
            raise IntegrityError(
                f"{self._source} ended the file early: {self.position} of {self.layout.size} "
                "bytes arrived"
            )

    def _take(self, chunk: service_pb2.Chunk) -> None:
        data, offset = chunk.data, self.position
        if chunk.offset != offset:
            raise IntegrityError(
                f"{self._source} sent a chunk for byte {chunk.offset} where byte {offset} must "
                "come next"
            )
        if offset + len(data) > self.layout.size:
            raise IntegrityError(
                f"{self._source} sent {offset + len(data)} bytes of a file that has "
                f"{self.layout.size}"
            )
        checksum = int(google_crc32c.value(data))
        if checksum != chunk.crc32c:
            raise IntegrityError(
                f"the {len(data)} bytes from byte {offset} on were damaged on the way from "
                f"{self._source}: their CRC-32C is {checksum:08x}, not {chunk.crc32c:08x}"
            )
        header = self.layout.header[offset : offset + len(data)]
        if not data.startswith(header):
            raise IntegrityError(
                f"{self._source} sent another header than this plan has; is it a server of the "
                "same version of initserve?"
            )
        self._sink.write(data)
        self.position += len(data)


def check_info(info: service_pb2.FileInfo, layout: Layout, source: str) -> None:
    """Holds what a server says about a file against the file.

    Raises:
        IntegrityError: if stream version, digest or size differ.
    """
    for what, theirs, ours in (
        ("stream version", info.stream_version, STREAM_VERSION),
        ("plan digest", info.plan_digest, layout.digest),
        ("file size", info.total_size, layout.size),
    ):
        if theirs != ours:
            raise IntegrityError(
                f"{source} has {what} {theirs} for this plan where this client has {ours}; is it "
                "a server of the same version of initserve?"
            )


class Buffer:
    """A sink in memory, from which the file's tensors are taken as arrays.

    Args:
        layout: the file.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._bytes = np.empty(layout.size, dtype=np.uint8)
        self._filled = 0

    def write(self, data: bytes | memoryview, /) -> None:
        """Puts the next bytes in their place."""
        end = self._filled + len(data)
        self._bytes[self._filled : end] = np.frombuffer(data, dtype=np.uint8)
        self._filled = end

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors in the plan's order: writable, and views of one block of memory."""
        return {entry.tensor.name: self._array(entry) for entry in self._layout.entries}

    def _array(self, entry: Entry) -> NDArray[Any]:
        tensor = entry.tensor
        part = self._bytes[entry.begin : entry.end]
        if part.ctypes.data % tensor.dtype.itemsize:
            part = part.copy()
        return part.view(tensor.dtype.numpy).reshape(tensor.shard_shape)
