"""A proxy that cuts, delays, stalls, duplicates, drops and flips bytes on their way to the client.

Damage is done to what HTTP/2 carries, a frame of data doubled, lost or changed. Damage to HTTP/2's
own bytes is gRPC's to find, and gRPC 1.85 ends the process on some of it: on a frame that closes a
stream with a number that it has no name for (http2_status.h, "UNREACHABLE CODE"). TLS turns all
damage into a connection that breaks.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["cut", "delay", "stall", "duplicate", "flip", "drop"]

DAMAGE: tuple[Kind, ...] = ("duplicate", "flip", "drop")


@dataclass(frozen=True)
class Mischief:
    """A fault of a connection.

    Attributes:
        kind: what.
        at: after so many bytes from the server.
        bit: which bit of the byte is flipped.
        seconds: how long a delay takes.
        anywhere: whether HTTP/2's own bytes are damaged too.
    """

    kind: Kind
    at: int
    bit: int = 0
    seconds: float = 0.2
    anywhere: bool = False


class Proxy:
    """Forwards connections to a server, with faults.

    Args:
        upstream: HOST:PORT of the server.
        mischief: what happens, one after the other; each waits for the connection that the
            one before it broke to be made again. After the last one, nothing happens.

    Attributes:
        address: where it listens.
        connections: how many there were.
        done: what has happened.
    """

    def __init__(self, upstream: str, mischief: Iterable[Mischief] = ()) -> None:
        self.connections = 0
        self.done: list[Mischief] = []
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._waiting = iter(mischief)
        self._ended = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._run(self._accept)

    def end(self) -> None:
        """Cuts all connections and waits for all threads."""
        self._ended.set()
        _shut(self._listener)
        while self._threads:
            _shut(*self._sockets)
            self._threads.pop().join()
        # Not before: a thread that reads from a closed one may read from another's, which the
        # system has given the same number.
        for end in (self._listener, *self._sockets):
            end.close()

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        # Only now: `end` may be joining what it finds here, on another thread.
        self._threads.append(thread)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                planned = next(self._waiting, None)
                try:
                    server = socket.create_connection(self._upstream)
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                self._run(self._forward, client, server)
                self._run(self._spoil, server, client, planned)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
        _shut(client, server)

    def _spoil(
        self, server: socket.socket, client: socket.socket, planned: Mischief | None
    ) -> None:
        passed = 0
        framed = planned is not None and not planned.anywhere
        with suppress(OSError):
            for data in _frames(server) if framed else _pieces(server):
                here = max(planned.at - passed, 0) if planned else 0
                passed += len(data)
                if (
                    planned
                    and planned.at < passed
                    and (planned.kind not in DAMAGE or not framed or _carries_data(data))
                ):
                    self.done.append(planned)
                    changed = self._changed(data, here, planned, framed)
                    client.sendall(changed)
                    if planned.kind == "stall":
                        self._ended.wait()
                    if planned.kind in ("stall", "cut"):
                        break
                    # If the connection survives that, it meets with the next one.
                    planned = next(self._waiting, None)
                    if planned:
                        planned = replace(planned, at=passed + planned.at)
                else:
                    client.sendall(data)
        _shut(client, server)

    def _changed(self, data: bytes, here: int, planned: Mischief, framed: bool) -> bytes:
        match planned.kind:
            case "cut" | "stall":
                return data[:here]
            case "duplicate":
                return data + data
            case "drop":
                return b""
            case "flip":
                at = _HEAD + here % (len(data) - _HEAD) if framed else here
                return data[:at] + bytes([data[at] ^ 1 << planned.bit]) + data[at + 1 :]
            case "delay":
                self._ended.wait(planned.seconds)
        return data


_HEAD = 9
"""Bytes before the payload of an HTTP/2 frame: length in three, type in one, then others."""


def _pieces(source: socket.socket) -> Iterator[bytes]:
    while data := source.recv(1 << 18):
        yield data


def _frames(source: socket.socket) -> Iterator[bytes]:
    rest = b""
    for data in _pieces(source):
        rest += data
        while len(rest) >= _HEAD and len(rest) >= (end := _HEAD + int.from_bytes(rest[:3])):
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _carries_data(frame: bytes) -> bool:
    return len(frame) > _HEAD and frame[3] == 0


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        # A thread that reads from it wakes up.
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(upstream: str, mischief: Iterable[Mischief] = ()) -> Iterator[Proxy]:
    """A proxy before a server."""
    proxy = Proxy(upstream, mischief)
    try:
        yield proxy
    finally:
        proxy.end()
