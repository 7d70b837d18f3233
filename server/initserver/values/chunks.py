"""Ranges of files as chunks: each made once for all callers, and a few ahead of each stream.

Every file is cut at the multiples of one MiB, whatever range a caller asks for, so callers
with overlapping ranges share chunks. A range that begins or ends inside a chunk takes a piece
of that chunk; a small piece is made alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from initcore import VirtualFile
from initcore.generate import Matrix, Pulse
from numpy.typing import NDArray

from initserver.config import CHUNK_BYTES, Limits
from initserver.share import (
    ChunkKey,
    DeferredTask,
    LatestValues,
    LeftError,
    SingleFlight,
    Task,
    Waiter,
    WholeFiles,
)
from initserver.values.metrics import Metrics
from initserver.wire import OutgoingChunk, Write

V = TypeVar("V")

SIGN_OF_LIFE_SECONDS = 10.0
"""A stream that has sent nothing for this long sends a sign of life: clients give up on a
stream that is silent for a minute."""

AHEAD = 2
"""Chunks that are being made, or wait, behind the one that is being sent."""

# A smaller piece of a chunk is made alone.
_WORTH_SHARING = CHUNK_BYTES // 4

# Memory that a cached chunk takes beside its message. Measured.
_OBJECTS = 1 << 10

# Matrices with fewer draws are made again for each chunk.
_SMALL_MATRIX = 1 << 14

# Bytes of small matrices that are kept while one chunk is made: rows of several may alternate.
_MADE_BYTES = 8 << 20

# A chunk of more tensors may take seconds: each costs some ten microseconds, and more.
_QUICK_TENSORS = 256

# Most matrices that one chunk waits for.
_MAX_NEEDS = 1000


@dataclass(frozen=True)
class Piece:
    """Bytes begin .. end - 1 of a file, inside the chunk low .. high - 1."""

    begin: int
    end: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Computed:
    """Bytes of a file that are computed where they are wanted.

    Attributes:
        begin: position of the first byte.
        size: how many.
        write: computes them into memory of this size.
    """

    begin: int
    size: int
    write: Write


def pieces(begin: int, end: int, size: int) -> Iterator[Piece]:
    """The range begin .. end - 1 of a file of `size` bytes, cut where chunks are."""
    low = begin - begin % CHUNK_BYTES
    while max(begin, low) < end:
        high = min(low + CHUNK_BYTES, size)
        yield Piece(max(begin, low), min(end, high), low, high)
        low += CHUNK_BYTES


class Caller:
    """The waiters of one call; when the call is cancelled, they all leave.

    Args:
        end: ends the call from any thread, with a sentence for the log.
    """

    def __init__(self, end: Callable[[str], None] = lambda reason: None) -> None:
        self.end = end
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._waiters: set[Waiter[Any]] = set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the call is over: cancelled, past its deadline, or complete."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Has all waiters leave, and those added later too. Returns at once."""
        with self._lock:
            self._is_cancelled = True
            waiters = list(self._waiters)
            self._waiters.clear()
        for waiter in waiters:
            waiter.leave()

    def add(self, waiter: Waiter[Any]) -> None:
        """Adds a waiter of this call."""
        with self._lock:
            if not self._is_cancelled:
                self._waiters.add(waiter)
        if self._is_cancelled:
            waiter.leave()

    def discard(self, waiter: Waiter[Any]) -> None:
        """Removes a waiter that has its value, or has left."""
        with self._lock:
            self._waiters.discard(waiter)


@dataclass(frozen=True)
class _Ahead:
    """The rest of a stream: pieces that it waits for, and pieces that it has not asked for."""

    file: VirtualFile
    left: Iterator[Piece]
    caller: Caller
    waiting: deque[tuple[Piece, Waiter[OutgoingChunk]]] = field(default_factory=deque)


class Chunks:
    """Makes the chunks of files, each once for all callers.

    Args:
        limits: sizes of the caches.
        metrics: counts chunks that are made and shared.
        pool: where chunks are made: one thread for each CPU.
        composed_pool: where chunks are made that may take seconds, so that they never delay
            the others: pieces of thousands of tensors or parts, small matrices, checkpoints.
            None takes `pool`.
        matrix_pool: where work that takes seconds runs, so that it never delays chunks.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        pool: Executor,
        matrix_pool: Executor,
        composed_pool: Executor | None = None,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._matrix_pool = matrix_pool
        self._composed_pool = composed_pool or pool
        # One matrix of the largest size, as float32.
        self._max_held = 4 * limits.max_matrix_elements
        self._chunks = SingleFlight(
            WholeFiles[OutgoingChunk](limits.cache_bytes, lambda chunk: chunk.nbytes + _OBJECTS),
            _CacheMetrics(metrics),
        )
        self._matrices = SingleFlight(
            LatestValues[NDArray[Any]](
                limits.matrix_cache_bytes, lambda matrix: matrix.nbytes, keep_latest=True
            )
        )

    def stream(
        self, file: VirtualFile, begin: int, end: int, caller: Caller
    ) -> Iterator[OutgoingChunk | None]:
        """The range begin .. end - 1, in order; None each time a sign of life is due.

        Ends early when the call is cancelled.

        At most `AHEAD` chunks are made ahead of the one that is being sent, so that the pool
        serves all callers in turn. The first ones start at once, before anything is taken.
        """
        ahead = _Ahead(file, pieces(begin, end, file.size), caller)
        self._fill(ahead)
        return self._in_order(ahead)

    def _fill(self, ahead: _Ahead) -> None:
        while len(ahead.waiting) <= AHEAD and (piece := next(ahead.left, None)):
            waiter = self._join(ahead.file, piece)
            ahead.caller.add(waiter)
            ahead.waiting.append((piece, waiter))

    def _in_order(self, ahead: _Ahead) -> Iterator[OutgoingChunk | None]:
        caller, waiting = ahead.caller, ahead.waiting
        try:
            while waiting and not caller.is_cancelled:
                piece, waiter = waiting.popleft()
                yield from waiter.ticks(SIGN_OF_LIFE_SECONDS)
                chunk = waiter.result()
                caller.discard(waiter)
                # References are dropped at once, so that a stream holds no chunk that was sent.
                del waiter
                yield chunk.part(piece.begin, piece.end)
                del chunk
                self._fill(ahead)
        except LeftError:
            return
        finally:
            for _, waiter in waiting:
                waiter.leave()
                caller.discard(waiter)

    def _join(self, file: VirtualFile, piece: Piece) -> Waiter[OutgoingChunk]:
        low, high = piece.low, piece.high
        count = piece.end - piece.begin
        if count < min(_WORTH_SHARING, high - low):
            whole = ChunkKey(file.layout.digest, file.size, low, high)
            if whole not in self._chunks:
                low, high = piece.begin, piece.end
        key = ChunkKey(file.layout.digest, file.size, low, high)
        return self._chunks.join(self.task(key, file, low, high, _chunk))

    def task(
        self,
        key: Hashable,
        file: VirtualFile,
        low: int,
        high: int,
        make: Callable[[Computed], V],
    ) -> DeferredTask[V]:
        """A task that makes a value from bytes low .. high - 1 of a file, in the pools given.

        Args:
            key: equal for equal values.
            file: the file.
            low: the first byte.
            high: the byte past the last.
            make: makes the value from these bytes.
        """
        # Deferred: to find the matrices that a range of composed tensors needs takes as long
        # as to make some chunks, and most chunks are cached or on their way.
        return DeferredTask(key, lambda: self._resolved(key, file, low, high, make))

    def _resolved(
        self,
        key: Hashable,
        file: VirtualFile,
        low: int,
        high: int,
        make: Callable[[Computed], V],
    ) -> Task[V]:
        wanted = file.needs(low, high - low).values()
        needs = [matrix for matrix in wanted if matrix.draws > _SMALL_MATRIX]
        is_quick = len(needs) == len(wanted) and _is_quick(file, low, high)
        # A plan can have a corner of another huge matrix in each of a thousand slices.
        # Then the task makes one after the other itself, and never holds them all.
        alone = len(needs) > 1 and (
            len(needs) > _MAX_NEEDS or sum(matrix.nbytes for matrix in needs) > self._max_held
        )

        def made(values: Sequence[NDArray[Any]], pulse: Pulse) -> V:
            given = {matrix.key: value for matrix, value in zip(needs, values, strict=False)}
            read = file.with_cache(_Given(given, pulse), pulse)
            return make(Computed(low, high - low, lambda out: self._write(read, low, out)))

        return Task(
            key=key,
            make=made,
            pool=self._matrix_pool if alone else self._pool if is_quick else self._composed_pool,
            needs=[] if alone else [self._need(matrix) for matrix in needs],
        )

    def _need(self, matrix: Matrix) -> Callable[[], Waiter[NDArray[Any]]]:
        task: Task[NDArray[Any]] = Task(
            matrix.key, lambda values, pulse: matrix.make(pulse), self._matrix_pool
        )
        return lambda: self._matrices.join(task)

    def _write(self, file: VirtualFile, low: int, out: NDArray[np.uint8]) -> None:
        start = time.perf_counter()
        file.read_into(low, out)
        self._metrics.generation_seconds.observe(time.perf_counter() - start)
        self._metrics.generated_bytes.add(len(out))
        elements: dict[str, int] = {}
        for entry, _, count in file.elements(low, len(out)):
            scheme = entry.tensor.scheme.upper()
            elements[scheme] = elements.get(scheme, 0) + count
        for scheme, count in elements.items():
            self._metrics.elements.add(count, scheme)


def _chunk(computed: Computed) -> OutgoingChunk:
    return OutgoingChunk.written(computed.begin, computed.size, computed.write)


def _is_quick(file: VirtualFile, low: int, high: int) -> bool:
    """Whether bytes low .. high - 1 are made within milliseconds, but for large matrices."""
    entries = islice(file.elements(low, high - low), _QUICK_TENSORS + 1)
    tensors = [entry.tensor for entry, _, _ in entries]
    return len(tensors) <= _QUICK_TENSORS and not any(
        tensor.parts or tensor.scheme == "pretrained" for tensor in tensors
    )


class _Given:
    """The matrices that a chunk was given; it makes others itself and keeps the latest."""

    def __init__(self, given: dict[Any, NDArray[Any]], pulse: Pulse) -> None:
        self._given = given
        self._pulse = pulse
        self._made: dict[Any, NDArray[Any]] = {}
        self._made_bytes = 0

    def get(self, matrix: Matrix) -> NDArray[Any]:
        """The values of a matrix."""
        found = self._given.get(matrix.key)
        if found is None:
            found = self._made.get(matrix.key)
        if found is None:
            # Room is made first: two huge matrices must never be in memory together.
            while self._made and self._made_bytes + matrix.nbytes > _MADE_BYTES:
                self._made_bytes -= self._made.pop(next(iter(self._made))).nbytes
            found = self._made[matrix.key] = matrix.make(self._pulse)
            self._made_bytes += found.nbytes
        return found


class _CacheMetrics:
    """Counts for the metrics how chunks are shared and kept."""

    def __init__(self, metrics: Metrics) -> None:
        self.shared = metrics.cache_hits.add
        self.kept = metrics.cache_bytes.set
        self.evicted = metrics.cache_evictions.add
