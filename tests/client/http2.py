"""A server of HTTP/2 that sends whatever it is told, without gRPC and its checks."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_PREFACE = 24
_LONGEST_FRAME = 16384

Fields = Sequence[tuple[str, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def headers(stream: int, fields: Fields, *, last: bool = False, status: int = 0) -> bytes:
    """A block of headers; `status` is that of HTTP, left out in trailers."""
    block = b"" if not status else _field(":status", str(status).encode())
    block += b"".join(_field(name, value) for name, value in fields)
    return frame(HEADERS, END_HEADERS | (END_STREAM if last else 0), stream, block)


def message(stream: int, payload: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A gRPC message in frames of data; `length` is what it says instead of its length."""
    told = len(payload) if length is None else length
    data = bytes([flag]) + struct.pack(">I", told & 0xFFFFFFFF) + payload
    pieces = (data[at : at + _LONGEST_FRAME] for at in range(0, len(data), _LONGEST_FRAME))
    return b"".join(frame(DATA, 0, stream, piece) for piece in pieces)


def _field(name: str, value: bytes) -> bytes:
    """A header as a literal that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + _text(name.encode()) + _text(value)


def _text(data: bytes) -> bytes:
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, digits = len(data) - 127, b""
    while rest >= 128:
        digits += bytes([rest % 128 + 128])
        rest //= 128
    return b"\x7f" + digits + bytes([rest]) + data


class Closed(Exception):  # noqa: N818 - the end of a connection
    """The connection ends here."""


class Connection:
    """A connection that answers.

    Attributes:
        stream: the number of the current call.
        ended: set when the server closes, or the client has gone.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.stream = 0
        self.ended = threading.Event()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._end.sendall(data)

    def wait(self, seconds: float) -> None:
        """Waits, but not longer than the connection lasts.

        Raises:
            Closed: if it has ended.
        """
        if self.ended.wait(seconds):
            raise Closed


class Http2Server:
    """Listens at a port of its own, and answers every call as it is told.

    Args:
        answer: answers a call; takes the connection and the bytes of the request's message.

    Attributes:
        address: where it listens.
        calls: how many calls there were.
    """

    def __init__(self, answer: Callable[[Connection, bytes], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.calls = 0
        self._open: set[socket.socket] = set()
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def close(self) -> None:
        """Ends all connections and waits for all threads."""
        _shut(self._listener)
        self._threads[0].join()
        for connection in self._connections:
            connection.ended.set()
        _shut(*self._open)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def __enter__(self) -> Http2Server:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.add(end)
                self._run(self._serve, end)

    def _serve(self, end: socket.socket) -> None:
        connection = Connection(end)
        self._connections.append(connection)
        answering: list[threading.Thread] = []
        with end, suppress(OSError, Closed):
            requests: dict[int, bytes] = {}
            _exactly(end, _PREFACE)
            connection.send(frame(SETTINGS, 0, 0))
            while True:
                head = _exactly(end, 9)
                payload = _exactly(end, int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == SETTINGS and not flags & ACK:
                    connection.send(frame(SETTINGS, ACK, 0))
                elif kind == PING and not flags & ACK:
                    connection.send(frame(PING, ACK, 0, payload))
                elif kind == DATA:
                    requests[stream] = requests.get(stream, b"") + payload
                    if flags & END_STREAM:
                        self.calls += 1
                        connection.stream = stream
                        work = threading.Thread(
                            target=self._call, args=(connection, requests.pop(stream)[5:])
                        )
                        answering.append(work)
                        work.start()
        connection.ended.set()
        for work in answering:
            work.join()
        self._open.discard(end)

    def _call(self, connection: Connection, request: bytes) -> None:
        with suppress(OSError):
            try:
                self._answer(connection, request)
            except Closed:
                _shut(connection._end)


def _exactly(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = end.recv(count - len(data))
        if not piece:
            raise Closed
        data += piece
    return data


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def joined(parts: Iterable[bytes]) -> bytes:
    """Frames in one piece."""
    return b"".join(parts)
