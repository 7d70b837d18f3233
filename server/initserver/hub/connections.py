"""Bounds the connections of the Hub's port in number, and in the time that a request may take.

aiohttp waits for a request as long as its bytes drip in. Here a connection that has no whole
request is closed after `IDLE_SECONDS`, and the oldest of them makes room when all places are
taken; if there is none, the one makes room whose client has taken nothing of its answer for the
longest time. Others whose request is being answered are left alone. A connection has its place
from the moment it is accepted, before its TLS handshake.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, TypeAlias

from initserver.net import TlsContexts

IDLE_SECONDS = 20.0
"""How long a connection may have no whole request: the first one, or the next."""

LOOK_SECONDS = 0.5

_HANDSHAKE_SECONDS = 10.0

# Connections that are accepted in one turn of the loop: those who start together share work.
_AT_ONCE = 128

# A connection is known by the task that shakes hands, and after that by its transport.
_Key: TypeAlias = "asyncio.Task[Any] | asyncio.BaseTransport"


class Connections:
    """The connections of one port.

    Args:
        make: makes the protocol that speaks HTTP.
        most: connections at the same time.
        stall_seconds: a connection whose client takes nothing for this long may make room.
        contexts: the server's identity; None for plain HTTP.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        most: int,
        stall_seconds: float,
        contexts: TlsContexts | None,
    ) -> None:
        self._make = make
        self._most = most
        self._stall_seconds = stall_seconds
        self._contexts = contexts
        # Those without a whole request, with the time since when, the oldest first.
        self._idle: dict[_Key, float] = {}
        # Those whose buffer is full, with the time since when, the oldest first.
        self._full: dict[_Key, float] = {}
        self._open: set[_Key] = set()

    async def accept(self, listener: socket.socket) -> None:
        """Accepts connections; runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        for number in count(1):
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:
                # Such as no file descriptor that is left.
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if number % _AT_ONCE == 0 or len(self._open) >= self._most:
                # Tasks begin before one of them may have to make room, and others have their turn.
                await asyncio.sleep(0)
            if self._makes_room():
                self.opened(loop.create_task(self._connect(client)))
            else:
                client.close()

    async def _connect(self, client: socket.socket) -> None:
        """Shakes hands, and passes the connection on."""
        task = asyncio.current_task()
        options: dict[str, Any] = {}
        if self._contexts:
            options = {
                "ssl": self._contexts.current(),
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
            }
        try:
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: _Counted(self._make(), self, task), client, **options
                )
        finally:
            self.closed(task)

    def opened(self, connection: _Key) -> None:
        """A connection was accepted, or has shaken hands."""
        self._open.add(connection)
        self._idle[connection] = time.monotonic()

    def begins(self, transport: asyncio.BaseTransport | None) -> None:
        """A whole request has arrived."""
        if transport is not None:
            self._idle.pop(transport, None)

    def ends(self, transport: asyncio.BaseTransport | None) -> None:
        """It was answered."""
        if transport in self._open:
            assert transport is not None
            self._idle[transport] = time.monotonic()

    def fills(self, transport: asyncio.BaseTransport | None) -> None:
        """Its client takes less than is sent."""
        if transport in self._open:
            assert transport is not None
            self._full[transport] = time.monotonic()

    def drains(self, transport: asyncio.BaseTransport | None) -> None:
        """Its client has taken what was sent."""
        if transport is not None:
            self._full.pop(transport, None)

    def closed(self, connection: _Key | None) -> None:
        """A connection has ended, or its handshake."""
        if connection is not None:
            self._open.discard(connection)
            self._idle.pop(connection, None)
            self._full.pop(connection, None)

    async def watch(self) -> None:
        """Closes connections that are idle for too long; runs until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            due = time.monotonic() - IDLE_SECONDS
            for connection in [one for one, since in self._idle.items() if since < due]:
                self._close(connection)

    def _makes_room(self) -> bool:
        """Whether there is a place for one more, which may be that of another."""
        if len(self._open) < self._most:
            return True
        ended = next(iter(self._idle), None) or self._stalled()
        if ended is None:
            return False
        self._close(ended)
        return True

    def _stalled(self) -> _Key | None:
        """The connection whose buffer is full for the longest time, if that is long enough."""
        oldest, since = next(iter(self._full.items()), (None, float("inf")))
        return oldest if time.monotonic() - since >= self._stall_seconds else None

    def _close(self, connection: _Key) -> None:
        self.closed(connection)
        if isinstance(connection, asyncio.Task):
            connection.cancel()
        # At once, even if a client takes nothing of what is left to send.
        elif isinstance(connection, asyncio.WriteTransport):
            connection.abort()


class _Counted(asyncio.Protocol):
    """Passes everything on, and counts the connection."""

    def __init__(self, inner: Any, connections: Connections, handshake: _Key | None) -> None:
        self._inner = inner
        self._connections = connections
        self._handshake = handshake
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)
        self._connections.closed(self._handshake)
        self._connections.opened(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.closed(self._transport)
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        result: bool | None = self._inner.eof_received()
        return result

    def pause_writing(self) -> None:
        self._connections.fills(self._transport)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._connections.drains(self._transport)
        self._inner.resume_writing()
