"""Bounded caches: which values are kept, and which are evicted to make room.

Caches have no locks: the `SingleFlight` that owns one calls it under its own lock.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

V = TypeVar("V")


class Cache(Protocol[V]):
    """Keeps some of the values that are put into it."""

    @property
    def nbytes(self) -> int:
        """Bytes of all kept values."""

    def get(self, key: Any) -> V | None:
        """The value if it is kept; this counts as a use."""

    def put(self, key: Any, value: V) -> int:
        """Keeps the value if there is room; returns how many others were evicted."""

    def __contains__(self, key: object) -> bool:
        """Whether the value is kept; this does not count as a use."""


class LatestValues(Generic[V]):
    """Evicts the value that was used least recently (LRU), or the oldest one (FIFO).

    Args:
        max_bytes: most bytes of all kept values.
        weigh: returns the bytes of a value.
        keep_latest: whether the latest value is kept even if it alone is larger.
        by_use: LRU; False is FIFO.
        drop: takes each evicted value; called under the lock of the owner.
    """

    def __init__(
        self,
        max_bytes: int,
        weigh: Callable[[V], int],
        keep_latest: bool = False,
        by_use: bool = True,
        drop: Callable[[V], None] | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._weigh = weigh
        self._drop = drop
        self._least = 1 if keep_latest else 0
        self._by_use = by_use
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all kept values."""
        return self._nbytes

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> V | None:
        """The value if it is kept; this counts as a use."""
        found = self._kept.get(key)
        if found is None:
            return None
        if self._by_use:
            self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: V) -> int:
        """Keeps the value unless it alone is too large; returns how many others were evicted."""
        size = self._weigh(value)
        if size > self._max_bytes and not self._least:
            return 0
        before = self._kept.pop(key, None)
        if before:
            self._nbytes -= before[1]
        self._kept[key] = value, size
        self._nbytes += size
        evicted = 0
        while self._nbytes > self._max_bytes and len(self._kept) > self._least:
            _, (oldest, size) = self._kept.popitem(last=False)
            self._nbytes -= size
            evicted += 1
            if self._drop:
                self._drop(oldest)
        return evicted


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Names a chunk: bytes low .. high - 1 of a file.

    Attributes:
        file: the digest of the file's plan.
        file_bytes: size of the file.
        low: the first byte.
        high: the byte past the last.
    """

    file: str
    file_bytes: int
    low: int
    high: int


@dataclass(eq=False)
class _File(Generic[V]):
    """A file that is kept whole: those of its chunks that were made."""

    chunks: dict[ChunkKey, tuple[V, int]] = field(default_factory=dict)
    nbytes: int = 0
    read_at: float = 0.0


class WholeFiles(Generic[V]):
    """Keeps chunks: all chunks of files that fit, and the newest chunks of larger files.

    Each caller reads a file from its beginning to its end, at its own pace. A plain LRU cache
    that is a little smaller than the file would be useless to a caller that follows: each
    chunk would be evicted just before that caller needs it. So three quarters of the room are
    for files that fit into it. Their chunks stay until another file needs the room and nothing
    has read this one for `idle_seconds`; then the whole file is evicted. The chunks of larger
    files, and of files that find no room there, share the last quarter: the newest chunks
    (FIFO), for callers that follow the first one closely. LRU would be worse there: a chunk
    that a follower has just read may be one that no other caller needs.

    Args:
        max_bytes: most bytes of all kept chunks.
        weigh: returns the bytes of a chunk.
        idle_seconds: a file that was read within this time keeps its room.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        max_bytes: int,
        weigh: Callable[[V], int],
        idle_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes - max_bytes // 4
        self._weigh = weigh
        self._idle_seconds = idle_seconds
        self._clock = clock
        # In the order of the last read, oldest first.
        self._files: OrderedDict[str, _File[V]] = OrderedDict()
        self._nbytes = 0
        self._passing = LatestValues(max_bytes // 4, weigh, by_use=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all kept chunks."""
        return self._nbytes + self._passing.nbytes

    def __contains__(self, key: object) -> bool:
        if isinstance(key, ChunkKey) and key.file in self._files:
            return key in self._files[key.file].chunks or key in self._passing
        return key in self._passing

    def get(self, key: ChunkKey) -> V | None:
        """The chunk if it is kept; either way its file counts as read."""
        file = self._files.get(key.file)
        if file:
            self._touch(key.file, file)
            found = file.chunks.get(key)
            if found:
                return found[0]
        return self._passing.get(key)

    def put(self, key: ChunkKey, value: V) -> int:
        """Keeps the chunk where there is room; returns how many others were evicted."""
        size = self._weigh(value)
        if key.file_bytes > self._max_bytes:
            return self._passing.put(key, value)
        file = self._files.get(key.file) or _File()
        if key.file in self._files:
            # A caller has waited for this chunk meanwhile, so its file is in use.
            self._touch(key.file, file)
        before = file.chunks.get(key, (None, 0))[1]
        evicted = self._make_room(size - before, key.file)
        if self._nbytes + size - before > self._max_bytes:
            return evicted + self._passing.put(key, value)
        file.chunks[key] = value, size
        file.nbytes += size - before
        self._nbytes += size - before
        self._files[key.file] = file
        self._touch(key.file, file)
        return evicted

    def _touch(self, name: str, file: _File[V]) -> None:
        file.read_at = self._clock()
        self._files.move_to_end(name)

    def _make_room(self, size: int, wanted: str) -> int:
        """Evicts idle files, the least recently read first; returns how many chunks they had."""
        evicted = 0
        while self._files and self._nbytes + size > self._max_bytes:
            name, file = next(iter(self._files.items()))
            if name == wanted or self._clock() - file.read_at < self._idle_seconds:
                break
            del self._files[name]
            self._nbytes -= file.nbytes
            evicted += len(file.chunks)
        return evicted
