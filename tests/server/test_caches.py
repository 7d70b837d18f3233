"""Caches: bounded, small files kept whole, and no help to nobody from a large one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from initserver.share.caches import Cache, ChunkKey, LatestValues, WholeFiles

ROOM = 100
"""Of which 75 are for whole files."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> WholeFiles[str]:
    return WholeFiles(ROOM, len, clock=clock)


def chunk(file: str, number: int, file_bytes: int) -> tuple[ChunkKey, str]:
    """A chunk of ten bytes."""
    low = 10 * number
    return ChunkKey(file, file_bytes, low, low + 10), f"{file}{number}".ljust(10)


def read(cache: WholeFiles[str], file: str, file_bytes: int, *numbers: int) -> list[int]:
    """Reads these chunks as a caller does, and says which ones had to be made."""
    made = []
    for number in numbers or range(file_bytes // 10):
        key, value = chunk(file, number, file_bytes)
        found = cache.get(key)
        assert found in (None, value)
        if found is None:
            made.append(number)
            cache.put(key, value)
    return made


@pytest.mark.parametrize(("keep_latest", "max_bytes", "kept"), [(False, 9, 0), (True, 9, 1)])
@pytest.mark.parametrize("count", [1, 5])
def test_what_is_too_large_to_keep(
    keep_latest: bool, max_bytes: int, kept: int, count: int
) -> None:
    values = LatestValues[str](max_bytes, lambda value: 10, keep_latest)
    for key in range(count):
        values.put(key, "value")
    assert sum(key in values for key in range(count)) == kept


def test_evicted_values_are_handed_over() -> None:
    gone: list[str] = []
    values = LatestValues[str](30, lambda value: 10, drop=gone.append)
    assert sum(values.put(key, f"value {key}") for key in range(5)) == 2
    assert gone == ["value 0", "value 1"]


def test_the_values_used_last_are_kept() -> None:
    values = LatestValues[str](30, lambda value: 10)
    for key in (0, 1, 2, 0, 3):
        if values.get(key) is None:
            values.put(key, "value")
    assert [key for key in range(4) if key in values] == [0, 2, 3]
    assert values.nbytes == 30


def test_a_file_that_fits_is_made_once_for_readers_at_any_distance(
    cache: WholeFiles[str], clock: Clock
) -> None:
    assert read(cache, "a", 70) == list(range(7))
    clock.now = 3600
    assert read(cache, "a", 70) == []


def test_a_larger_file_only_passes_through_and_pushes_no_other_out(
    cache: WholeFiles[str], clock: Clock
) -> None:
    read(cache, "a", 70)
    clock.now = 3600
    assert read(cache, "huge", 1000) == list(range(100))
    assert read(cache, "a", 70) == []
    assert cache.nbytes == 70 + 20


def test_a_larger_file_is_shared_by_readers_who_follow_closely(cache: WholeFiles[str]) -> None:
    read(cache, "huge", 1000, 0)
    for number in range(1, 100):
        assert read(cache, "huge", 1000, number) == [number]
        assert read(cache, "huge", 1000, number - 1) == []


def test_a_file_that_is_being_read_keeps_its_room(cache: WholeFiles[str], clock: Clock) -> None:
    for number in range(5):
        read(cache, "a", 50, number)
        read(cache, "b", 50, number)
    # What was in time has stayed, and the rest of both has passed through.
    assert read(cache, "a", 50)[:1] != [0]
    assert read(cache, "b", 50)[:1] != [0]
    assert cache.nbytes <= ROOM


def test_a_file_that_nobody_reads_any_more_makes_room(cache: WholeFiles[str], clock: Clock) -> None:
    read(cache, "a", 30)
    read(cache, "b", 30)
    clock.now = 10
    read(cache, "a", 30)
    read(cache, "c", 40)
    assert read(cache, "a", 30) == []
    assert read(cache, "c", 40) == []
    # The one read longest ago has gone as a whole.
    assert read(cache, "b", 30) == [0, 1, 2]


def test_no_room_keeps_nothing(clock: Clock) -> None:
    cache = WholeFiles[str](0, len, clock=clock)
    assert read(cache, "a", 30) == read(cache, "a", 30) == [0, 1, 2]
    assert cache.nbytes == 0


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.integers(1, 25), st.booleans())
    )
)
def test_a_cache_is_never_fuller_than_it_may_be_and_mixes_nothing_up(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    clock = Clock()
    cache: WholeFiles[str] = WholeFiles(ROOM, len, clock=clock)
    for file, low, size, pause in steps:
        key = ChunkKey(file, 20 * (1 + "abcdef".index(file)), low, low + size)
        value = f"{file}{low}".ljust(size)[:size]
        there = key in cache
        found = cache.get(key)
        assert there == (found is not None)
        assert found in (None, value)
        cache.put(key, value)
        assert cache.nbytes <= ROOM
        clock.now += 10 * pause


def test_both_are_caches() -> None:
    caches: list[Cache[str]] = [LatestValues(1, len), WholeFiles(1, len)]
    assert all(cache.nbytes == 0 for cache in caches)


def test_a_file_whose_chunk_took_long_counts_as_read(cache: WholeFiles[str], clock: Clock) -> None:
    read(cache, "a", 40, 0)
    read(cache, "b", 70, 0, 1, 2, 3, 4)
    # The second chunk of a was asked for first, and took long.
    clock.now += 1000
    key, value = chunk("a", 1, 40)
    cache.put(key, value)
    key, value = chunk("a", 2, 40)
    cache.put(key, value)
    assert cache.get(chunk("a", 1, 40)[0])
    assert cache.get(chunk("a", 2, 40)[0])
