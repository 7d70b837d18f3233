"""Prometheus metrics: what is counted, and how the counts of several processes are added up.

A server that is alone has a registry of its own. Workers write their counts to files in a
folder that the variable PROMETHEUS_MULTIPROC_DIR names (prometheus_client's multiprocess
mode), and the process that started them adds the files up. Counts of a worker that has ended
stay; its gauges go with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from initcore import STREAM_VERSION, MissingPackageError, __version__

from initserver.rpc import Call

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_CALL_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 30, 60, 300, 1800)
_CHUNK_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 10)


class Metrics:
    """Counts calls (it is a `Watcher` of them) and what the service does (an `Observer`).

    Args:
        backend: name of what draws the samples, a label of some metrics.

    Raises:
        MissingPackageError: if prometheus_client is not installed.
    """

    def __init__(self, backend: str) -> None:
        prometheus = load_prometheus()
        registry = self._registry = prometheus.CollectorRegistry()
        self._backend = backend
        self._lock = threading.Lock()

        def counter(name: str, text: str, *labels: str) -> Any:
            return prometheus.Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: str = "livesum") -> Any:
            return prometheus.Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        def histogram(name: str, text: str, label: str, buckets: tuple[float, ...]) -> Any:
            return prometheus.Histogram(name, text, (label,), registry=registry, buckets=buckets)

        self._calls = counter(
            "initserver_calls", "Calls that have ended, streams included.", "method", "code"
        )
        self._call_seconds = histogram(
            "initserver_call_seconds", "Duration of calls.", "method", _CALL_SECONDS
        )
        self._sent = counter("initserver_sent_bytes", "Bytes of files handed to the transport.")
        self._elements = counter("initserver_elements", "Elements generated.", "scheme", "backend")
        self._generated = counter(
            "initserver_generated_bytes", "Bytes of files generated.", "backend"
        )
        self._generation = histogram(
            "initserver_generation_seconds",
            "Time to generate one chunk, on one thread.",
            "backend",
            _CHUNK_SECONDS,
        )
        self._hits = counter(
            "initserver_cache_hits", "Chunks taken from the cache or from another call."
        )
        self._evictions = counter("initserver_cache_evictions", "Chunks that left the cache.")
        self._cache = gauge("initserver_cache_bytes", "Bytes of chunks in the cache.")
        self._streams = gauge("initserver_streams_in_flight", "Downloads that are running.")
        self._gauge = gauge
        self._expiry: Any = None
        info = gauge(
            "initserver_info",
            "What runs here; always 1.",
            "version",
            "stream_version",
            "backend",
            mode="livemax",
        )
        info.labels(__version__, str(STREAM_VERSION), backend).set(1)
        if FOLDER_VARIABLE not in os.environ:
            prometheus.ProcessCollector(registry=registry)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the reader accepts, and that format's name."""
        return _exposed(self._registry, accept)

    def certificate_expires(self, timestamp: float) -> None:
        """The certificate in use ends to be valid at this Unix time."""
        with self._lock:
            if self._expiry is None:
                # Not before: without TLS it would say that a certificate ended in 1970.
                self._expiry = self._gauge(
                    "initserver_certificate_expiry_timestamp_seconds",
                    "When the TLS certificate in use ends to be valid, in Unix time.",
                    mode="livemin",
                )
        self._expiry.set(timestamp)

    def started(self, call: Call) -> None:
        """Nothing is counted before a call has ended."""

    def ended(self, call: Call) -> None:
        """Counts a call."""
        self._calls.labels(call.method, call.code.name).inc()
        self._call_seconds.labels(call.method).observe(call.seconds)

    def chunk_made(self, seconds: float, nbytes: int, elements: Mapping[str, int]) -> None:
        """Counts a chunk that was generated."""
        self._generation.labels(self._backend).observe(seconds)
        self._generated.labels(self._backend).inc(nbytes)
        for scheme, count in elements.items():
            self._elements.labels(scheme, self._backend).inc(count)

    def chunk_shared(self) -> None:
        """Counts a chunk that was not generated again."""
        self._hits.inc()

    def cache_bytes(self, nbytes: int) -> None:
        """Takes down the cache's size."""
        self._cache.set(nbytes)

    def chunk_evicted(self) -> None:
        """Counts a chunk that left the cache."""
        self._evictions.inc()

    def stream_started(self) -> None:
        """One more download runs."""
        self._streams.inc()

    def stream_ended(self) -> None:
        """One download less runs."""
        self._streams.dec()

    def sent(self, nbytes: int) -> None:
        """Counts bytes that were sent."""
        self._sent.inc(nbytes)


class WorkersMetrics:
    """The metrics of all workers, added up from the files in a folder.

    Args:
        folder: where the workers write; set in FOLDER_VARIABLE before they start.

    Raises:
        MissingPackageError: if prometheus_client is not installed.
    """

    def __init__(self, folder: str) -> None:
        self._prometheus = load_prometheus()
        self._folder = folder
        self._own = self._prometheus.CollectorRegistry()
        self._restarts = 0

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the reader accepts, and that format's name."""
        from prometheus_client import core, multiprocess

        # A registry of the moment: the files of workers come and go.
        registry = self._prometheus.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        restarts = core.CounterMetricFamily(
            "initserver_worker_restarts", "Workers that ended by themselves and were replaced."
        )
        restarts.add_metric([], self._restarts)
        registry.register(_Constant(restarts))
        return _exposed(registry, accept)

    def worker_ended(self, pid: int) -> None:
        """Drops the gauges of a process that is gone."""
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid, self._folder)  # type: ignore[no-untyped-call]

    def worker_restarted(self) -> None:
        """Counts a worker that was replaced."""
        self._restarts += 1


class _Constant:
    """A collector of one metric that is at hand already."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def collect(self) -> list[Any]:
        """The metric."""
        return [self._metric]


def load_prometheus() -> Any:
    """The package prometheus_client.

    Raises:
        MissingPackageError: if it is not installed.
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise MissingPackageError("prometheus_client", "server", "--metrics-listen") from error
    return prometheus_client


def _exposed(registry: Any, accept: str) -> tuple[bytes, str]:
    from prometheus_client import exposition

    encode, content_type = exposition.choose_encoder(accept)
    return encode(registry), content_type
