"""The port of the Hub endpoint: its thread and event loop, TLS, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any

from initcore import MissingPackageError

from initserver.hub.connections import Connections
from initserver.hub.endpoint import Endpoint
from initserver.net import Tls, TlsContexts, listening_socket, with_port

# Between two requests a connection stays open longer than most clients keep it.
_KEEPALIVE_SECONDS = 15.0

_MOST_LINE = 8 << 10

# Seconds for requests that were cut off to end.
_LAST_SECONDS = 1.0


class HubPort:
    """Listens from its creation, and answers from `start` until it is closed.

    Args:
        listen: HOST:PORT.
        endpoint: answers requests.
        tls: the server's identity; None for plain HTTP.
        share_port: whether other processes listen at the same port.
        most_connections: connections at the same time.
        stall_seconds: a connection whose client takes nothing for this long may make room.

    Attributes:
        address: HOST:PORT with the real port in place of 0.

    Raises:
        ListenError: if the address cannot be had.
        MissingPackageError: if aiohttp is not installed.
    """

    def __init__(
        self,
        listen: str,
        endpoint: Endpoint,
        tls: Tls | None,
        *,
        share_port: bool = False,
        most_connections: int,
        stall_seconds: float,
    ) -> None:
        load_aiohttp()
        self._endpoint = endpoint
        self._contexts = TlsContexts(tls, ["http/1.1"]) if tls else None
        self._most, self._stall_seconds = most_connections, stall_seconds
        self._listener = listening_socket(listen, share=share_port)
        self.address = with_port(listen, self._listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="initserver-hub", daemon=True)
        self._running: set[asyncio.Task[Any]] = set()
        self._is_open = False

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()
        self._call(self._open())
        self._is_open = True

    def refuse(self) -> None:
        """Answers new requests with an error from now on."""
        self._endpoint.refuse()

    def close(self, seconds: float) -> None:
        """Closes the port; requests that run may take so many seconds to end."""
        self._endpoint.refuse()
        if self._is_open:
            self._call(self._shut(seconds))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._listener.close()
        self._endpoint.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        from aiohttp import web

        self._server = web.Server(
            self._answer,
            access_log=None,
            logger=_quiet(),
            keepalive_timeout=_KEEPALIVE_SECONDS,
            max_line_size=_MOST_LINE,
            max_field_size=_MOST_LINE,
            lingering_time=1.0,
            # A compressed body of 256 KiB holds 256 MiB, and it would be unpacked at once, before
            # anything asks for a token.
            auto_decompress=False,
        )
        self._connections = Connections(
            self._server, self._most, self._stall_seconds, self._contexts
        )
        self._listener.setblocking(False)
        self._accept = self._loop.create_task(self._connections.accept(self._listener))
        self._watch = self._loop.create_task(self._connections.watch())

    async def _answer(self, request: Any) -> Any:
        transport, task = request.transport, asyncio.current_task()
        assert task is not None
        self._connections.begins(transport)
        self._running.add(task)
        try:
            return await self._endpoint.answer(request)
        finally:
            self._running.discard(task)
            self._connections.ends(transport)

    async def _shut(self, seconds: float) -> None:
        self._accept.cancel()
        await asyncio.wait([self._accept])
        self._listener.close()
        # Connections without a request end at once, and the others with their answers.
        self._server.pre_shutdown()
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        for task in self._running:
            task.cancel()
        await self._server.shutdown(_LAST_SECONDS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def load_aiohttp() -> Any:
    """The package aiohttp.

    Raises:
        MissingPackageError: if it is not installed.
    """
    try:
        import aiohttp
    except ImportError as error:
        raise MissingPackageError("aiohttp", "hub", "--hub-listen") from error
    return aiohttp


def _quiet() -> logging.Logger:
    """A logger for what aiohttp says of malformed requests: nobody may fill the log with them."""
    logger = logging.getLogger("initserver.aiohttp")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger
