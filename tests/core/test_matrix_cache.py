"""The cache of matrices: what it keeps, in which order it evicts, and what an insert costs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout, orthogonal
from initcore.backends import load
from initcore.generate import Matrix, MatrixCache

Work = Counter[str]


@dataclass(frozen=True)
class Key:
    """A key that counts how often it is hashed and compared."""

    number: int
    work: Work

    def __hash__(self) -> int:
        self.work["hashes"] += 1
        return self.number

    def __eq__(self, other: object) -> bool:
        self.work["comparisons"] += 1
        return isinstance(other, Key) and other.number == self.number


class Measured(np.ndarray):
    """An array that counts how often its size is asked for."""

    work: Work

    @property
    def nbytes(self) -> int:
        self.work["sizes"] += 1
        return super().nbytes


def array_of(nbytes: int, work: Work) -> Measured:
    array = np.zeros(nbytes, dtype=np.uint8).view(Measured)
    array.work = work
    return array


def matrix(key: object, nbytes: int, made: list[object] | None = None) -> Matrix:
    def make(pulse: object) -> np.ndarray:
        if made is not None:
            made.append(key)
        return np.zeros(nbytes, dtype=np.uint8)

    return Matrix(key, 1, nbytes, make)


def work_of_inserts(kept: int, inserts: int) -> Work:
    """What `inserts` inserts do in a cache that already holds `kept` arrays."""
    work: Work = Counter()
    cache = MatrixCache(max_bytes=8 * (kept + inserts // 2))
    for number in range(kept + inserts):
        if number == kept:
            work.clear()
        made = array_of(8, work)
        cache.get(Matrix(Key(number, work), 1, 8, lambda pulse, made=made: made))
    return work


def test_an_insert_costs_the_same_in_a_small_and_in_a_large_cache() -> None:
    """Half of these inserts evict another array."""
    small, large = work_of_inserts(10, 200), work_of_inserts(5_000, 200)
    assert 0 < large["sizes"] <= 2 * 200
    assert small["sizes"] == large["sizes"]
    # Keys whose places in the table collide are compared, so these may differ a little.
    for kind in ("hashes", "comparisons"):
        assert large[kind] <= 1.5 * small[kind] + 200


@given(
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=60),
)
def test_the_least_recently_used_arrays_go_first(
    max_bytes: int, calls: list[tuple[int, int]]
) -> None:
    """Against the rule itself, with the sum taken anew at every insert."""
    cache = MatrixCache(max_bytes)
    expected: dict[object, int] = {}
    for number, size in calls:
        key, nbytes = (number, size), 4 + 6 * size
        made: list[object] = []
        cache.get(matrix(key, nbytes, made))
        assert bool(made) == (key not in expected)
        expected.pop(key, None)
        expected[key] = nbytes
        while sum(expected.values()) > max_bytes and len(expected) > 1:
            del expected[next(iter(expected))]
        assert list(cache._values) == list(expected)
        assert cache._bytes == sum(expected.values())


def test_an_array_over_the_limit_is_kept_until_the_next_one() -> None:
    made: list[object] = []
    cache = MatrixCache(max_bytes=10)
    for key in ("large", "large", "small", "large"):
        cache.get(matrix(key, 100 if key == "large" else 1, made))
    assert made == ["large", "small", "large"]


def test_an_array_that_two_threads_made_counts_once() -> None:
    """The second thread waits for the first, whose array is evicted before the second looks."""
    cache = MatrixCache(max_bytes=100)
    for nbytes in (60, 60, 40):
        cache._keep("a", np.zeros(nbytes, dtype=np.uint8))
        cache._keep("b", np.zeros(20, dtype=np.uint8))
        assert cache._bytes == nbytes + 20
        assert list(cache._values) == ["a", "b"]


def test_threads_that_want_one_matrix_make_it_once() -> None:
    cache, barrier = MatrixCache(), threading.Barrier(8)
    made: list[object] = []
    found: list[np.ndarray] = []

    def get() -> None:
        barrier.wait()
        found.extend(cache.get(matrix(number, 8, made)) for number in range(50))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made, key=str) == sorted(range(50), key=str)
    assert len({id(array) for array in found}) == 50
    assert cache._bytes == 50 * 8


def test_a_cache_shared_by_plans_mixes_nothing_up() -> None:
    cache = MatrixCache()
    for gain in (1.0, -1.0, 0.0, -0.0, 0.5):
        laid_out = layout(Plan({"q": orthogonal((4, 4), gain)}))
        shared = VirtualFile(laid_out, load("numpy"), cache).array(laid_out.entries[0])
        fresh = VirtualFile(laid_out, load("numpy")).array(laid_out.entries[0])
        assert shared.tobytes() == fresh.tobytes()


def test_a_failed_matrix_is_tried_again() -> None:
    cache = MatrixCache()

    def fails(pulse: object) -> np.ndarray:
        raise MemoryError

    for _ in range(2):
        with pytest.raises(MemoryError):
            cache.get(Matrix("key", 1, 8, fails))
    assert cache.get(Matrix("key", 1, 8, lambda pulse: np.ones(1))) == 1


def test_after_a_failure_waiting_and_new_callers_make_a_matrix_one_at_a_time() -> None:
    """A caller in line since before the failure, and one that came after it."""
    cache = MatrixCache()
    begun, go_on = threading.Event(), threading.Event()
    count = threading.Lock()
    running, most = 0, 0

    def failing(pulse: object) -> Any:
        begun.set()
        assert go_on.wait(30)
        raise RuntimeError("lost")

    def slow(pulse: object) -> Any:
        nonlocal running, most
        with count:
            running += 1
            most = max(most, running)
        time.sleep(0.2)
        with count:
            running -= 1
        raise RuntimeError("lost")

    def caller(make: Any) -> None:
        with pytest.raises(RuntimeError, match="lost"):
            cache.get(Matrix("key", 1, 8, make))

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(caller, failing)]
        assert begun.wait(30)
        done += [pool.submit(caller, slow) for _ in range(3)]
        time.sleep(0.1)
        go_on.set()
        done[0].result(30)
        done += [pool.submit(caller, slow) for _ in range(3)]
        for one in done:
            one.result(30)
    assert most == 1
    assert not cache._turns
