"""A tunnel that ends TLS before a server without it, so that callers of TLS have two replicas."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path

from tests.server.certificates import Authority


class Tunnel:
    """Accepts TLS connections, and forwards what they carry to a server without TLS.

    Args:
        upstream: HOST:PORT of the server.
        authority: signs the tunnel's certificate.
        folder: where certificate and key are written.

    Attributes:
        address: where it listens.
    """

    def __init__(self, upstream: str, authority: Authority, folder: Path) -> None:
        folder.mkdir()
        cert, key = authority.sign("tunnel").write(folder, "tunnel")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(cert, key)
        self._tls.set_alpn_protocols(["h2"])
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        ends = [writer]
        try:
            with suppress(OSError, asyncio.CancelledError):
                back, forth = await asyncio.open_connection(*self._upstream)
                ends.append(forth)
                both = [forward(reader, forth), forward(back, writer)]
                tasks = [asyncio.create_task(one) for one in both]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for one in tasks:
                    one.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._connections.discard(task)
            for end in ends:
                end.transport.abort()

    def close(self) -> None:
        """Ends all connections and its thread."""

        async def end() -> None:
            self._server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forwards one direction until it ends or breaks."""
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
