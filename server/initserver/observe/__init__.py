"""Logs, metrics for Prometheus, and traces.

The metrics are declared in `initserver.values`; the calls that are logged and traced are followed
in `initserver.rpc`.
"""

from initserver.observe.logs import CallLog, set_up_logs
from initserver.observe.metrics_folder import hold_metrics_folder, make_metrics_folder
from initserver.observe.prometheus import FOLDER_VARIABLE, PrometheusMetrics, WorkersMetrics
from initserver.observe.tracing import Tracing, tracing_if_wanted
from initserver.observe.worker_files import reserve_files

__all__ = [
    "FOLDER_VARIABLE",
    "CallLog",
    "PrometheusMetrics",
    "Tracing",
    "WorkersMetrics",
    "hold_metrics_folder",
    "make_metrics_folder",
    "reserve_files",
    "set_up_logs",
    "tracing_if_wanted",
]
