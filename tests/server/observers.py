"""A service whose work can be watched: its metrics keep all values, for tests."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from initcore.backends import load
from initserver.config.limits import Limits
from initserver.rpc.handlers import add_to_server, stream_threads
from initserver.rpc.service import InitService
from initserver.values.metrics import Counter, Gauge, Histogram, Metrics, declarations


class Recorded(Counter, Gauge, Histogram):
    """A metric of any kind that keeps its values."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.values: list[float] = []
        self.last = 0.0
        self.by_label: Tally[str] = Tally()

    @property
    def total(self) -> float:
        with self._lock:
            return sum(self.values)

    def add(self, amount: float = 1, /, *labels: str) -> None:
        with self._lock:
            self.values.append(amount)
            for label in labels:
                self.by_label[label] += int(amount)

    def set(self, value: float, /, *labels: str) -> None:
        self.last = value

    def observe(self, value: float, /, *labels: str) -> None:
        assert value >= 0
        self.add(value)


class Counts(Metrics):
    """Metrics that keep all values."""

    def __init__(self) -> None:
        self.recorded = {one.name: Recorded() for one in declarations()}
        super().__init__(**self.recorded)

    @property
    def made(self) -> list[float]:
        """Sizes of the chunks that were made."""
        return self.recorded["generated_bytes"].values

    @property
    def made_bytes(self) -> float:
        return self.recorded["generated_bytes"].total

    @property
    def made_elements(self) -> Tally[str]:
        """Elements that were made, by scheme."""
        return self.recorded["elements"].by_label

    @property
    def shared(self) -> float:
        """Chunks that came from the cache or from another call."""
        return self.recorded["cache_hits"].total

    @property
    def streams(self) -> float:
        """Downloads that are running."""
        return self.recorded["streams_in_flight"].total


@contextmanager
def watched_service(
    backend: str = "numpy", threads: int | None = None, **limits: int
) -> Iterator[tuple[str, Counts]]:
    """A service on loopback: its address, and what it counts."""
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
