"""What the service computes: plans, chunks and fingerprints, each once for all callers."""

from initserver.values.chunks import SIGN_OF_LIFE_SECONDS, Caller, Chunks
from initserver.values.fingerprints import Fingerprints
from initserver.values.observer import NullObserver, Observer
from initserver.values.plans import RecentPlans

__all__ = [
    "SIGN_OF_LIFE_SECONDS",
    "Caller",
    "Chunks",
    "Fingerprints",
    "NullObserver",
    "Observer",
    "RecentPlans",
]
