"""Ranges of files as chunks: made once for all who want them, and a little ahead.

Every file is cut at the multiples of a mebibyte, whatever range a caller asks for, so
callers with overlapping ranges share chunks. Where a range begins or ends inside a chunk,
it gets its part of that chunk, or just that part is made if it is small.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from initcore import VirtualFile
from initcore.generate import Matrix, Pulse
from numpy.typing import NDArray

from initserver.config import CHUNK_BYTES, Limits
from initserver.share import ChunkKey, DroppedError, Herd, LatestValues, Task, WholeFiles, Wish
from initserver.values.observer import Observer
from initserver.wire import OutgoingChunk

V = TypeVar("V")

SIGN_OF_LIFE_SECONDS = 10.0
"""Streams that have nothing to send for so long say that they are alive: clients give up
on those that are silent for a minute."""

AHEAD = 2
"""Chunks that are made, or wait to be sent, behind the one that is being sent."""

# A smaller part of a chunk is made by itself.
_WORTH_SHARING = CHUNK_BYTES // 4

# What a chunk that is kept takes in memory beside its message. Measured.
_OBJECTS = 1 << 10

# Matrices that cost less than this are made anew for each chunk.
_SMALL_MATRIX = 1 << 14

# What a chunk keeps of those until it is made: the rows of several may alternate in it.
_MADE_BYTES = 8 << 20

# Matrices that are asked for on behalf of one chunk.
_MAX_NEEDS = 1000


@dataclass(frozen=True)
class Part:
    """Bytes begin .. end - 1 of a file, inside the chunk low .. high - 1."""

    begin: int
    end: int
    low: int
    high: int


def parts(begin: int, end: int, size: int) -> Iterator[Part]:
    """The range begin .. end - 1 of a file of `size` bytes, cut where chunks are."""
    low = begin - begin % CHUNK_BYTES
    while max(begin, low) < end:
        high = min(low + CHUNK_BYTES, size)
        yield Part(max(begin, low), min(end, high), low, high)
        low += CHUNK_BYTES


class Caller:
    """Somebody who may hang up: then all they wished for is dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gone = False
        self._wishes: set[Wish[Any]] = set()

    @property
    def gone(self) -> bool:
        """Whether they have hung up."""
        return self._gone

    def hang_up(self) -> None:
        """Drops what is still wished for, now and later. Returns at once."""
        with self._lock:
            self._gone = True
            wishes = list(self._wishes)
            self._wishes.clear()
        for wish in wishes:
            wish.drop()

    def waits_for(self, wish: Wish[Any]) -> None:
        """Ties a wish to the caller."""
        with self._lock:
            if not self._gone:
                self._wishes.add(wish)
        if self._gone:
            wish.drop()

    def has(self, wish: Wish[Any]) -> None:
        """Unties a wish that needs no watching any more."""
        with self._lock:
            self._wishes.discard(wish)


@dataclass(frozen=True)
class _Ahead:
    """What a stream has still to send: parts that are wished for, and parts that are not."""

    file: VirtualFile
    left: Iterator[Part]
    caller: Caller
    wishes: deque[tuple[Part, Wish[OutgoingChunk]]] = field(default_factory=deque)


class Chunks:
    """Makes the chunks of files, each once for all callers.

    Args:
        limits: how much may be kept.
        observer: hears what is made and shared.
        pool: where chunks are made: as many threads as there are CPUs.
        matrix_pool: where what takes seconds is made, so that it never holds up chunks.
    """

    def __init__(
        self, limits: Limits, observer: Observer, pool: Executor, matrix_pool: Executor
    ) -> None:
        self._observer = observer
        self._pool = pool
        self._matrix_pool = matrix_pool
        # One matrix of the largest size, as float32.
        self._max_held = 4 * limits.max_matrix_elements
        self._chunks = Herd(
            WholeFiles[OutgoingChunk](limits.cache_bytes, lambda chunk: chunk.nbytes + _OBJECTS),
            _ChunkObserver(observer),
        )
        self._matrices = Herd(
            LatestValues[NDArray[Any]](
                limits.matrix_cache_bytes, lambda matrix: matrix.nbytes, keep_latest=True
            )
        )

    def stream(
        self, file: VirtualFile, begin: int, end: int, caller: Caller
    ) -> Iterator[OutgoingChunk | None]:
        """The range begin .. end - 1, in order; None for every so many seconds without any of it.

        Ends early when the caller hangs up.

        At most `AHEAD` chunks are made ahead of the one that is being sent, and they count
        as one caller's share: the pool serves all callers in turn. The first ones are begun
        at once, before anything is taken.
        """
        ahead = _Ahead(file, parts(begin, end, file.size), caller)
        self._fill(ahead)
        return self._in_order(ahead)

    def _fill(self, ahead: _Ahead) -> None:
        while len(ahead.wishes) <= AHEAD and (part := next(ahead.left, None)):
            wish = self._wish(ahead.file, part)
            ahead.caller.waits_for(wish)
            ahead.wishes.append((part, wish))

    def _in_order(self, ahead: _Ahead) -> Iterator[OutgoingChunk | None]:
        caller, wishes = ahead.caller, ahead.wishes
        try:
            while wishes and not caller.gone:
                part, wish = wishes.popleft()
                yield from wish.waits(SIGN_OF_LIFE_SECONDS)
                chunk = wish.result()
                caller.has(wish)
                del wish
                yield chunk.part(part.begin, part.end)
                del chunk
                self._fill(ahead)
        except DroppedError:
            return
        finally:
            for _, wish in wishes:
                wish.drop()
                caller.has(wish)

    def _wish(self, file: VirtualFile, part: Part) -> Wish[OutgoingChunk]:
        low, high = part.low, part.high
        count = part.end - part.begin
        if count < min(_WORTH_SHARING, high - low):
            whole = ChunkKey(file.layout.digest, file.size, low, high)
            if whole not in self._chunks:
                low, high = part.begin, part.end
        key = ChunkKey(file.layout.digest, file.size, low, high)
        return self._chunks.wish(self.task(key, file, low, high, OutgoingChunk.of))

    def task(
        self,
        key: Hashable,
        file: VirtualFile,
        low: int,
        high: int,
        make: Callable[[int, memoryview], V],
    ) -> Task[V]:
        """What makes a value from bytes low .. high - 1 of a file, in this object's pools.

        Args:
            key: equal for equal values.
            file: the file.
            low: first byte.
            high: the byte past the last.
            make: makes the value from the position of the first byte and the bytes.
        """

        def read(held: dict[Any, NDArray[Any]], pulse: Pulse) -> V:
            return make(low, self._read(file.with_cache(_Held(held, pulse), pulse), low, high))

        # Found out late: with composed tensors it takes as long as making some chunks, and
        # most chunks are there, or on their way, when they are wished for.
        return Task(
            key,
            lambda values, pulse: read({}, pulse),
            self._pool,
            whole=lambda: self._with_needs(key, file, low, high, read),
        )

    def _with_needs(
        self,
        key: Hashable,
        file: VirtualFile,
        low: int,
        high: int,
        read: Callable[[dict[Any, NDArray[Any]], Pulse], V],
    ) -> Task[V]:
        needs = [
            matrix
            for matrix in file.needs(low, high - low).values()
            if matrix.draws > _SMALL_MATRIX
        ]
        # A plan can have a corner of another huge matrix in each of a thousand slices.
        # Then they are made one after the other and never held together.
        alone = len(needs) > 1 and (
            len(needs) > _MAX_NEEDS or sum(matrix.nbytes for matrix in needs) > self._max_held
        )

        def made(values: Sequence[NDArray[Any]], pulse: Pulse) -> V:
            held = {matrix.key: value for matrix, value in zip(needs, values, strict=False)}
            return read(held, pulse)

        return Task(
            key=key,
            make=made,
            pool=self._matrix_pool if alone else self._pool,
            needs=[] if alone else [self._need(matrix) for matrix in needs],
        )

    def _need(self, matrix: Matrix) -> Any:
        task: Task[NDArray[Any]] = Task(
            matrix.key, lambda values, pulse: matrix.make(pulse), self._matrix_pool
        )
        return lambda: self._matrices.wish(task)

    def _read(self, file: VirtualFile, low: int, high: int) -> memoryview:
        start = time.perf_counter()
        data = file.read(low, high - low)
        elements: dict[str, int] = {}
        for entry, _, count in file.elements(low, high - low):
            scheme = entry.tensor.scheme.upper()
            elements[scheme] = elements.get(scheme, 0) + count
        self._observer.chunk_made(time.perf_counter() - start, high - low, elements)
        return data


class _Held:
    """Matrices that are there; others are made, and the latest of them kept for this one chunk."""

    def __init__(self, held: dict[Any, NDArray[Any]], pulse: Pulse) -> None:
        self._held = held
        self._pulse = pulse
        self._made: dict[Any, NDArray[Any]] = {}
        self._made_bytes = 0

    def get(self, matrix: Matrix) -> NDArray[Any]:
        """The values of a matrix."""
        found = self._held.get(matrix.key)
        if found is None:
            found = self._made.get(matrix.key)
        if found is None:
            # Before it is made: two that are huge must not be there together.
            while self._made and self._made_bytes + matrix.nbytes > _MADE_BYTES:
                self._made_bytes -= self._made.pop(next(iter(self._made))).nbytes
            found = self._made[matrix.key] = matrix.make(self._pulse)
            self._made_bytes += found.nbytes
        return found


class _ChunkObserver:
    """Tells the service's observer what becomes of chunks."""

    def __init__(self, observer: Observer) -> None:
        self.shared = observer.chunk_shared
        self.kept = observer.cache_bytes
        self.evicted = observer.chunk_evicted
