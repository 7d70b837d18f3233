"""The metrics of a server: each is declared once, as a field of `Metrics`.

A field's name becomes `initserver_NAME`, for a counter `initserver_NAME_total`. Code that
measures something calls the field, such as `metrics.sent_bytes.add(n)`. The fields of a plain
`Metrics()` ignore all values; `initserver.observe` makes them series for Prometheus.
"""

# ruff: noqa: RUF009 - the calls in the class body are dataclasses.field.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

BACKEND = "backend"
"""A last label of this name is filled in by the server; code that measures leaves it out."""

_CALL_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 30, 60, 300, 1800)
_CHUNK_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 10)


class Counter:
    """A number that only grows. This one ignores all values."""

    def add(self, amount: float = 1, /, *labels: str) -> None:
        """Adds an amount for these values of the labels, in the order of the declaration."""


class Gauge:
    """A number that grows and shrinks. This one ignores all values."""

    def add(self, amount: float = 1, /, *labels: str) -> None:
        """Adds an amount, which may be negative."""

    def set(self, value: float, /, *labels: str) -> None:
        """Sets the number."""


class Histogram:
    """Counts values by size. This one ignores all values."""

    def observe(self, value: float, /, *labels: str) -> None:
        """Counts one value."""


@dataclass(frozen=True)
class Declaration:
    """The declaration of one metric.

    Attributes:
        name: the field's name.
        kind: Counter, Gauge or Histogram.
        help: one sentence.
        labels: names of the labels.
        buckets: upper bounds of a histogram.
        workers: how the gauges of several workers are combined: "sum", "min" or "max".
        on_demand: whether the series appears only with its first value.
    """

    name: str
    kind: type[Counter | Gauge | Histogram]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    workers: str = "sum"
    on_demand: bool = False

    @property
    def series(self) -> str:
        """The name under which Prometheus sees it."""
        return f"initserver_{self.name}" + ("_total" if self.kind is Counter else "")


def _counter(help: str, *labels: str, **more: Any) -> Any:
    return _declared(Counter, help, labels, more)


def _gauge(help: str, *labels: str, **more: Any) -> Any:
    return _declared(Gauge, help, labels, more)


def _histogram(help: str, *labels: str, **more: Any) -> Any:
    return _declared(Histogram, help, labels, more)


def _declared(kind: type[Any], help: str, labels: tuple[str, ...], more: dict[str, Any]) -> Any:
    metadata = {"kind": kind, "help": help, "labels": labels, **more}
    return field(default=kind(), metadata=metadata)


@dataclass(eq=False)
class Metrics:
    """The metrics of a server. Calls come from many threads; they are quick and never raise."""

    calls: Counter = _counter("Calls that have ended, streams included.", "method", "code")
    call_seconds: Histogram = _histogram("Duration of calls.", "method", buckets=_CALL_SECONDS)
    sent_bytes: Counter = _counter("Bytes of files handed to the transport.")
    streams_in_flight: Gauge = _gauge("Downloads that are running.")
    elements: Counter = _counter("Elements generated.", "scheme", BACKEND)
    generated_bytes: Counter = _counter("Bytes of files generated.", BACKEND)
    generation_seconds: Histogram = _histogram(
        "Time to generate one chunk, on one thread.", BACKEND, buckets=_CHUNK_SECONDS
    )
    cache_hits: Counter = _counter("Chunks taken from the cache or from another call.")
    cache_evictions: Counter = _counter("Chunks that left the cache.")
    cache_bytes: Gauge = _gauge("Bytes of chunks in the cache.")
    # On demand: without TLS, a 0 would say that a certificate expired in 1970.
    certificate_expiry_timestamp_seconds: Gauge = _gauge(
        "When the TLS certificate in use expires, in Unix time.", workers="min", on_demand=True
    )
    # On demand: only the process that starts the workers counts it.
    worker_restarts: Counter = _counter("Workers that crashed and were replaced.", on_demand=True)
    info: Gauge = _gauge(
        "Version and backend of the server; always 1.",
        "version",
        "stream_version",
        BACKEND,
        workers="max",
    )


def declarations() -> Iterator[Declaration]:
    """The declaration of every metric, in order."""
    for one in fields(Metrics):
        yield Declaration(one.name, **one.metadata)
