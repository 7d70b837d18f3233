"""The values that a server computes: layouts, chunks and fingerprints, each once for all callers.

The metrics are declared here too, because this room is the first that counts. The bits of the
values come from initcore; single flight and the caches are in `initserver.share`.
"""

from initserver.values.chunks import SIGN_OF_LIFE_SECONDS, Caller, Chunks
from initserver.values.fingerprints import Fingerprints
from initserver.values.metrics import (
    BACKEND,
    Counter,
    Declaration,
    Gauge,
    Histogram,
    Metrics,
    declarations,
)
from initserver.values.plans import RecentPlans

__all__ = [
    "BACKEND",
    "SIGN_OF_LIFE_SECONDS",
    "Caller",
    "Chunks",
    "Counter",
    "Declaration",
    "Fingerprints",
    "Gauge",
    "Histogram",
    "Metrics",
    "RecentPlans",
    "declarations",
]
