"""Values that need a whole matrix or column: orthogonal matrices and the zeros of `sparse`.

Both are made once and kept in a bounded cache, since a file is read in pieces. Here are the
cache and how the values are made; `initcore.generate.generation` takes elements from them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend, RoundingBackend
from initcore.generate.haar import haar_columns
from initcore.generate.sparse_mask import thresholds
from initcore.machine import available_cpus, run_all
from initcore.resolve import DeltaOrthogonal, Orthogonal, Sparse
from initcore.stream import MASK, VALUE, Job, NormalDraw, Runs, WordDraw, derive

# Elements of a sparse matrix whose columns' bounds are made together. Of a wide matrix only the
# columns are visited that hold the elements asked for.
_WINDOW = 1 << 24

# Mask words that a thread looks at together when the zeros of columns are chosen: most often, and
# at most. Of tall matrices many at once, since a run of few words costs as much as one of sixteen.
_MASK_STRIP, _MASK_BLOCK = 1 << 18, 1 << 22

# Normals of an orthogonal matrix that are drawn together.
_NORMALS_BLOCK = 1 << 22

Pulse = Callable[[], None]
"""Called now and then by long work, by several threads at once; an exception that it raises ends
the work."""


@dataclass(frozen=True)
class Matrix:
    """Values that some elements need before they can be made.

    Attributes:
        key: equal for equal values.
        draws: how many words are drawn to make the values, a measure of their cost.
        nbytes: bytes of the values.
        make: computes the values. Takes a `Pulse`, or None.
    """

    key: Hashable
    draws: int
    nbytes: int
    make: Callable[[Pulse | None], NDArray[Any]]


class Matrices(Protocol):
    """Where a generator gets matrices from."""

    def get(self, matrix: Matrix) -> NDArray[Any]:
        """The values of a matrix, from the cache or computed now."""
        ...


@dataclass(eq=False)
class _Turn:
    """The line of callers that want one matrix: one at a time looks for it, and makes it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    callers: int = 0


class MatrixCache:
    """An LRU cache of matrices, bounded by bytes.

    The latest matrix is always kept, even if it alone exceeds the limit: a file that is read in
    pieces would compute it anew for each piece. Safe to use from several threads, with single
    flight: while one thread computes a matrix, others that need it wait for the result.

    Args:
        max_bytes: bytes of all arrays together.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self._values: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._turns: dict[Hashable, _Turn] = {}

    def get(self, matrix: Matrix) -> NDArray[Any]:
        """The values of a matrix, from the cache or computed now."""
        key = matrix.key
        with self._lock:
            found = self._find(key)
            if found is not None:
                return found
            turn = self._turns.setdefault(key, _Turn())
            turn.callers += 1
        try:
            with turn.lock:
                with self._lock:
                    found = self._find(key)
                if found is None:
                    # If this raises, the next caller in line tries for itself.
                    found = matrix.make(None)
                    with self._lock:
                        self._keep(key, found)
                return found
        finally:
            with self._lock:
                turn.callers -= 1
                # Not before: a new caller has to wait behind those that are in line.
                if not turn.callers:
                    del self._turns[key]

    def _find(self, key: Hashable) -> NDArray[Any] | None:
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def _keep(self, key: Hashable, value: NDArray[Any]) -> None:
        previous = self._values.pop(key, None)
        if previous is not None:
            self._bytes -= previous.nbytes
        self._values[key] = value
        self._bytes += value.nbytes
        while self._bytes > self.max_bytes and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= dropped.nbytes


def orthogonal_values(
    content: Orthogonal | DeltaOrthogonal,
    seed: int,
    name: str,
    backend: Backend,
    pulse: Pulse | None = None,
) -> NDArray[np.float32]:
    """The matrix of an orthogonal scheme, times gain, as float32.

    Returns:
        Shape (rows, columns) for `Orthogonal`, (outputs, inputs) for `DeltaOrthogonal`.
    """
    if isinstance(content, Orthogonal):
        rows, columns = content.rows, content.columns
    else:
        rows, columns = content.outputs, content.inputs
    length, count = max(rows, columns), min(rows, columns)
    # Reflection j takes its vector from words j * length .. (j + 1) * length - 1.
    normals = np.empty(count * length, dtype=np.float32)
    job = Job(NormalDraw(0.0, 1.0), derive(VALUE, seed, name), "F32")
    for start in range(0, normals.size, _NORMALS_BLOCK):
        if pulse:
            pulse()
        part = normals[start : start + _NORMALS_BLOCK]
        backend.fill(job, Runs(np.array([start], dtype=np.uint64), part.size), part)
    subtract = backend.subtract_rounded if isinstance(backend, RoundingBackend) else None
    tall = haar_columns(normals.reshape(count, length), pulse, subtract)
    tall *= content.gain
    with np.errstate(under="ignore"):
        values = tall.astype(np.float32)
    return values if rows >= columns else np.ascontiguousarray(values.T)


def sparse_windows(
    content: Sparse, columns: tuple[int, int], first: int, count: int
) -> Iterator[tuple[int, int]]:
    """The parts of a range of columns that hold elements first .. first + count - 1 of it."""
    left, right = columns
    width = right - left
    if not width or not count:
        return
    # Beyond one row every column is wanted; a shorter range may wrap into the next row.
    begin = first % width if count < width else 0
    end = begin + min(count, width)
    step = max(1, _WINDOW // content.rows)
    # A range that wraps is one from the first column on, and one from `begin` to the last.
    wrapped = max(0, end - width)
    windows = [*range(0, wrapped, step), *range(begin - begin % step, min(end, width), step)]
    for low in dict.fromkeys(windows):
        yield left + low, left + min(low + step, width)


def sparse_windows_of(content: Sparse, positions: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """The ranges of columns that hold elements at any positions."""
    step = max(1, _WINDOW // content.rows)
    for number in np.unique(positions % np.uint64(content.columns) // np.uint64(step)):
        left = int(number) * step
        yield left, min(left + step, content.columns)


def sparse_thresholds(
    content: Sparse,
    seed: int,
    name: str,
    first: int,
    last: int,
    backend: Backend,
    pulse: Pulse | None = None,
) -> NDArray[np.uint64]:
    """For each column first .. last - 1, the bound below which an element's key makes it zero.

    An element's key is its mask word * 2^32 + its row, so ties go to the smaller row.
    The element is zero where its key is less than its column's bound.

    Returns:
        uint64 array, one bound a column.
    """
    job = mask_job(seed, name)
    rows, zeros = content.rows, content.zeros
    bounds = np.empty(last - first, dtype=np.uint64)
    if zeros == rows:
        # Above every key: words are below 2^32 and rows below 2^31.
        bounds.fill(np.iinfo(np.uint64).max)
        return bounds
    step = _columns_together(rows)

    def choose(column: int) -> None:
        if pulse:
            pulse()
        width = min(step, last - column)
        words = np.empty(rows * width, dtype=np.uint32)
        starts = np.arange(rows, dtype=np.uint64) * np.uint64(content.columns) + np.uint64(column)
        backend.fill(job, Runs(starts, width), words)
        bounds[column - first : column - first + width] = thresholds(
            words.reshape(rows, width), zeros
        )

    # Of tall matrices a few strips are as much as one window.
    threads = min(available_cpus(), max(1, _WINDOW // (rows * step)))
    run_all(choose, range(first, last, step), threads)
    return bounds


def _columns_together(rows: int) -> int:
    """Columns whose zeros a thread chooses together, in a matrix with so many rows."""
    least = min(_MASK_BLOCK // rows, 16)
    step = max(_MASK_STRIP // rows, least, 1)
    # An odd number of cache lines from row to row: the words of a column, which are read one after
    # the other, would share few sets of the cache if it were a power of two.
    return step if step < 16 else step // 32 * 32 + 16


def mask_job(seed: int, name: str) -> Job:
    """The draw of the words that choose the zeros of `sparse`."""
    return Job(WordDraw(), derive(MASK, seed, name), "U32")
