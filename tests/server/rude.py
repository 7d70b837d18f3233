"""Callers without manners: HTTP/2 by hand, so that a call can stop halfway."""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType

_HEADERS, _SETTINGS, _DATA = 1, 4, 0
_END_HEADERS, _END_STREAM = 4, 1


class RudeConnection:
    """A connection to a gRPC port that says only what it is asked to say, and reads nothing.

    Args:
        address: HOST:PORT.
        window: bytes that each call accepts.
    """

    def __init__(self, address: str, window: int = 65535) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        self._next = 1
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, window))
            + frame(_SETTINGS, 1, 0, b"")
        )

    def begin(self, method: str, *metadata: tuple[str, str]) -> int:
        """Sends the headers of a call, and no request; returns its number."""
        number, self._next = self._next, self._next + 2
        fields = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/{method}"),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        )
        block = b"".join(b"\x00" + text(name) + text(value) for name, value in fields)
        self.socket.sendall(frame(_HEADERS, _END_HEADERS, number, block))
        return number

    def send(self, number: int, data: bytes, end: bool = False) -> None:
        """Sends bytes of a call's request."""
        self.socket.sendall(frame(_DATA, _END_STREAM if end else 0, number, data))

    def call(self, method: str, request: bytes) -> int:
        """Sends a whole call."""
        number = self.begin(method)
        self.send(number, struct.pack(">BI", 0, len(request)) + request, end=True)
        return number

    def wait_until_closed(self, seconds: float) -> None:
        """Reads until the server closes the connection."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                if not self.socket.recv(1 << 16):
                    return
            except (ConnectionError, TimeoutError):
                return
        raise AssertionError(f"the server did not close the connection within {seconds} s")

    def __enter__(self) -> RudeConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def text(value: str) -> bytes:
    """A string literal of HPACK (RFC 7541, section 5.2), not compressed."""
    data = value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, out = len(data) - 127, bytearray([127])
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes(out) + bytes([rest]) + data
