"""Work that callers share: single flight and its caches. Nothing here knows about plans."""

from initserver.share.caches import ChunkKey, LatestValues, WholeFiles
from initserver.share.single_flight import DroppedError, Herd, Task, Wish

__all__ = ["ChunkKey", "DroppedError", "Herd", "LatestValues", "Task", "WholeFiles", "Wish"]
