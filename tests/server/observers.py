"""What the service says about its work, for tests; and a service whose work can be watched."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from initcore.backends import load
from initserver.config.limits import Limits
from initserver.rpc.handlers import add_to_server, stream_threads
from initserver.rpc.service import InitService


class Counts:
    """Counts everything that the service says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.made: list[int] = []
        self.elements: Counter[str] = Counter()
        self.shared = 0
        self.evicted = 0
        self.cached = 0
        self.streams = 0
        self.sent_bytes = 0

    @property
    def made_bytes(self) -> int:
        return sum(self.made)

    def chunk_made(self, seconds: float, nbytes: int, elements: Mapping[str, int]) -> None:
        with self._lock:
            assert seconds >= 0
            self.made.append(nbytes)
            self.elements.update(elements)

    def chunk_shared(self) -> None:
        with self._lock:
            self.shared += 1

    def cache_bytes(self, nbytes: int) -> None:
        self.cached = nbytes

    def chunk_evicted(self) -> None:
        with self._lock:
            self.evicted += 1

    def stream_started(self) -> None:
        with self._lock:
            self.streams += 1

    def stream_ended(self) -> None:
        with self._lock:
            self.streams -= 1

    def sent(self, nbytes: int) -> None:
        with self._lock:
            self.sent_bytes += nbytes


@contextmanager
def watched_service(
    backend: str = "numpy", threads: int | None = None, **limits: int
) -> Iterator[tuple[str, Counts]]:
    """A service on loopback: its address, and what it says about its work."""
    counts = Counts()
    service = InitService(load(backend), Limits(**limits), counts, threads)
    streams = stream_threads(service)
    server = grpc.server(
        ThreadPoolExecutor(4),
        options=[("grpc.max_receive_message_length", service.limits.max_request_bytes)],
    )
    add_to_server(service, server, streams)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", counts
    finally:
        server.stop(0).wait()
        streams.shutdown(wait=True)
        service.close()
