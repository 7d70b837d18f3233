"""What a server computes: plans, chunks and fingerprints, each once for all callers.

The metrics are declared here too, because this room is the first that counts. Which bytes a
value has is the mathematics of initcore; how calls share it is in `initserver.share`.
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
