"""What people and machines see of the calls: logs, metrics, traces."""

from initserver.observe.logs import CallLog
from initserver.observe.metrics import FOLDER_VARIABLE, Metrics, WorkersMetrics
from initserver.observe.tracing import Tracing, tracing_if_wanted

__all__ = [
    "FOLDER_VARIABLE",
    "CallLog",
    "Metrics",
    "Tracing",
    "WorkersMetrics",
    "tracing_if_wanted",
]
