"""Single flight and its caches: callers that want the same value share one computation.

Nothing here knows how a value is made: values have keys and sizes.
"""

from initserver.share.caches import ChunkKey, LatestValues, WholeFiles
from initserver.share.single_flight import (
    AnyTask,
    DeferredTask,
    LeftError,
    SingleFlight,
    Task,
    Waiter,
)

__all__ = [
    "AnyTask",
    "ChunkKey",
    "DeferredTask",
    "LatestValues",
    "LeftError",
    "SingleFlight",
    "Task",
    "Waiter",
    "WholeFiles",
]
