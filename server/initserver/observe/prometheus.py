"""Metrics for Prometheus: of one process, and of several workers added up.

A server without workers has a registry of its own. Workers write their values to files in the
folder that the variable PROMETHEUS_MULTIPROC_DIR names (prometheus_client's multiprocess
mode), and the process that started them adds the files up. The counts of a worker that has
ended stay; its gauges go with it. The metrics themselves are declared in `initserver.values`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from initcore import STREAM_VERSION, MissingPackageError, __version__

from initserver.observe.worker_files import fold_files
from initserver.rpc import Call
from initserver.values import (
    BACKEND,
    Counter,
    Declaration,
    Gauge,
    Histogram,
    Metrics,
    declarations,
)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class PrometheusMetrics(Metrics):
    """The metrics of this process. As a `Watcher`, it counts calls.

    Args:
        backend: name of the backend, a label of some metrics.

    Raises:
        MissingPackageError: if prometheus_client is not installed.
    """

    def __init__(self, backend: str) -> None:
        prometheus = load_prometheus()
        self._registry = prometheus.CollectorRegistry()
        fields: dict[str, Any] = {
            one.name: _recording(one, self._registry, backend) for one in declarations()
        }
        super().__init__(**fields)
        self.info.set(1, __version__, str(STREAM_VERSION))
        if FOLDER_VARIABLE not in os.environ:
            prometheus.ProcessCollector(registry=self._registry)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the reader accepts, and that format's name."""
        return _exposed(self._registry, accept)

    def started(self, call: Call) -> None:
        """Does nothing: a call is counted when it has ended."""

    def ended(self, call: Call) -> None:
        """Counts a call."""
        self.calls.add(1, call.method, call.code.name)
        self.call_seconds.observe(call.seconds, call.method)


class WorkersMetrics(Metrics):
    """The metrics of all workers, added up from the files in a folder.

    Of the metrics themselves it records `worker_restarts`.

    Args:
        folder: where the workers write; set in FOLDER_VARIABLE before they start.

    Raises:
        MissingPackageError: if prometheus_client is not installed.
    """

    def __init__(self, folder: str) -> None:
        self._prometheus = load_prometheus()
        self._folder = folder
        self._restarts = _Sum()
        self._reading = threading.Lock()
        super().__init__(worker_restarts=self._restarts)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the reader accepts, and that format's name."""
        from prometheus_client import core, multiprocess

        # A new registry each time: the files of workers come and go.
        registry = self._prometheus.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        (declared,) = (one for one in declarations() if one.name == "worker_restarts")
        restarts = core.CounterMetricFamily(declared.series, declared.help)
        restarts.add_metric([], self._restarts.amount)
        registry.register(_Constant(restarts))
        with self._reading:
            return _exposed(registry, accept)

    def worker_ended(self, pid: int) -> None:
        """Drops the gauges of a process that has ended, and keeps its counts."""
        with self._reading:
            fold_files(self._folder, pid)


class _Series:
    """The series of one metric, by the values of its labels.

    Args:
        make: makes the metric of prometheus_client.
        constant: values of the last labels, the same for all series.
        on_demand: whether to make the metric only with its first value.
    """

    def __init__(self, make: Callable[[], Any], constant: tuple[str, ...], on_demand: bool) -> None:
        self._make = make
        self._constant = constant
        self._lock = threading.Lock()
        self._metric = None if on_demand else make()

    def at(self, labels: tuple[str, ...]) -> Any:
        """The series with these values of the labels."""
        if self._metric is None:
            with self._lock:
                self._metric = self._metric or self._make()
        labels += self._constant
        return self._metric.labels(*labels) if labels else self._metric


class _Counter(Counter):
    def __init__(self, series: _Series) -> None:
        self._series = series

    def add(self, amount: float = 1, /, *labels: str) -> None:
        self._series.at(labels).inc(amount)


class _Gauge(Gauge):
    def __init__(self, series: _Series) -> None:
        self._series = series

    def add(self, amount: float = 1, /, *labels: str) -> None:
        self._series.at(labels).inc(amount)

    def set(self, value: float, /, *labels: str) -> None:
        self._series.at(labels).set(value)


class _Histogram(Histogram):
    def __init__(self, series: _Series) -> None:
        self._series = series

    def observe(self, value: float, /, *labels: str) -> None:
        self._series.at(labels).observe(value)


class _Sum(Counter):
    """A counter that keeps its sum itself."""

    def __init__(self) -> None:
        self.amount = 0.0

    def add(self, amount: float = 1, /, *labels: str) -> None:
        self.amount += amount


class _Constant:
    """A collector that returns one finished metric."""

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


def _recording(declared: Declaration, registry: Any, backend: str) -> Any:
    """The Counter, Gauge or Histogram that was declared, with its series in a registry."""
    prometheus = load_prometheus()
    kinds: dict[type, tuple[Any, type[Any], dict[str, Any]]] = {
        Counter: (prometheus.Counter, _Counter, {}),
        Gauge: (prometheus.Gauge, _Gauge, {"multiprocess_mode": f"live{declared.workers}"}),
        Histogram: (prometheus.Histogram, _Histogram, {"buckets": declared.buckets}),
    }
    kind, recording, more = kinds[declared.kind]

    def make() -> Any:
        return kind(declared.series, declared.help, declared.labels, registry=registry, **more)

    constant = (backend,) if BACKEND in declared.labels else ()
    return recording(_Series(make, constant, declared.on_demand))


def _exposed(registry: Any, accept: str) -> tuple[bytes, str]:
    from prometheus_client import exposition

    encode, content_type = exposition.choose_encoder(accept)
    return encode(registry), content_type
