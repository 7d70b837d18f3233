"""What a server shows of its work: logs, metrics for Prometheus, traces.

Which metrics there are is declared in `initserver.values`; how calls are followed from their
beginning to their end is in `initserver.rpc`.
"""

from initserver.observe.logs import CallLog
from initserver.observe.prometheus import FOLDER_VARIABLE, PrometheusMetrics, WorkersMetrics
from initserver.observe.tracing import Tracing, tracing_if_wanted

__all__ = [
    "FOLDER_VARIABLE",
    "CallLog",
    "PrometheusMetrics",
    "Tracing",
    "WorkersMetrics",
    "tracing_if_wanted",
]
