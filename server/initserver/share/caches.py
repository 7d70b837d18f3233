"""What is kept of values that were made, and what goes when there is no more room.

Caches are not locked: the herd that owns one calls it under its own lock.
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
        """What the kept values weigh together."""

    def get(self, key: Any) -> V | None:
        """A kept value, which counts as used."""

    def put(self, key: Any, value: V) -> int:
        """Keeps a value, or not; how many others had to go."""

    def __contains__(self, key: object) -> bool:
        """Whether a value is kept. Does not count as a use."""


class LatestValues(Generic[V]):
    """Keeps the values that were used last, or made last.

    Args:
        max_bytes: what the kept values may weigh together.
        weigh: bytes of a value.
        keep_latest: whether the latest value is kept even if it alone weighs more.
        by_use: whether a value that is used counts as the latest.
    """

    def __init__(
        self,
        max_bytes: int,
        weigh: Callable[[V], int],
        keep_latest: bool = False,
        by_use: bool = True,
    ) -> None:
        self._max_bytes = max_bytes
        self._weigh = weigh
        self._least = 1 if keep_latest else 0
        self._by_use = by_use
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """What the kept values weigh together."""
        return self._nbytes

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> V | None:
        """A kept value, which counts as used."""
        found = self._kept.get(key)
        if found is None:
            return None
        if self._by_use:
            self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: V) -> int:
        """Keeps a value unless it alone weighs too much; how many others had to go."""
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
            _, (_, dropped) = self._kept.popitem(last=False)
            self._nbytes -= dropped
            evicted += 1
        return evicted


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Names a chunk.

    Attributes:
        file: the digest of its file's plan.
        file_bytes: size of that file.
        low: first byte.
        high: the one past the last.
    """

    file: str
    file_bytes: int
    low: int
    high: int


@dataclass(eq=False)
class _File(Generic[V]):
    """The kept chunks of a file that is kept whole."""

    chunks: dict[ChunkKey, tuple[V, int]] = field(default_factory=dict)
    nbytes: int = 0
    read_at: float = 0.0


class WholeFiles(Generic[V]):
    """Keeps chunks: small files whole, and of large ones what has just passed.

    Callers read files from one end to the other, each at a pace of its own. If the chunks used
    last were kept, one file a little larger than the cache would be of no use to a caller
    who is late: each chunk would be gone just before they come to it. So three quarters
    of the room are for files that fit into it. Their chunks stay until another file needs the
    room and this one has not been read for a while; then it goes as a whole. Chunks of larger
    files, and those that find no room there, share the last quarter, where the chunks made
    last are kept, for callers who follow each other closely. (Those used last would be worse:
    what a follower has read is what nobody behind the first may need any more.)

    Args:
        max_bytes: what the kept chunks may weigh together.
        weigh: bytes of a chunk.
        idle_seconds: a file that was read within this time keeps its room.
        clock: tells seconds.
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
        # The one that was read last comes last.
        self._files: OrderedDict[str, _File[V]] = OrderedDict()
        self._nbytes = 0
        self._passing = LatestValues(max_bytes // 4, weigh, by_use=False)

    @property
    def nbytes(self) -> int:
        """What the kept chunks weigh together."""
        return self._nbytes + self._passing.nbytes

    def __contains__(self, key: object) -> bool:
        if isinstance(key, ChunkKey) and key.file in self._files:
            return key in self._files[key.file].chunks or key in self._passing
        return key in self._passing

    def get(self, key: ChunkKey) -> V | None:
        """A kept chunk. Whether it is there or not, its file counts as being read."""
        file = self._files.get(key.file)
        if file:
            self._touch(key.file, file)
            found = file.chunks.get(key)
            if found:
                return found[0]
        return self._passing.get(key)

    def put(self, key: ChunkKey, value: V) -> int:
        """Keeps a chunk where there is room for it; how many others had to go."""
        size = self._weigh(value)
        if key.file_bytes > self._max_bytes:
            return self._passing.put(key, value)
        file = self._files.get(key.file) or _File()
        if key.file in self._files:
            # Its caller waited for this chunk meanwhile: older files go first.
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
        """Lets idle files go, the one first that was read longest ago."""
        evicted = 0
        while self._files and self._nbytes + size > self._max_bytes:
            name, file = next(iter(self._files.items()))
            if name == wanted or self._clock() - file.read_at < self._idle_seconds:
                break
            del self._files[name]
            self._nbytes -= file.nbytes
            evicted += len(file.chunks)
        return evicted
