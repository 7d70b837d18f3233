"""The simulation of a fleet keeps its books: bytes and time add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.fleet import Fleet, break_even, in_process, simulate

SMALL = Fleet(workers=200, megabytes=1000, replicas=4, spread=5)


@pytest.mark.parametrize("shards", [1, 8])
def test_every_worker_gets_what_it_wants(shards: int) -> None:
    fleet = replace(SMALL, shards=shards)
    assert simulate(fleet).sent == pytest.approx(fleet.workers * fleet.wanted)


def test_one_worker_waits_for_one_stream() -> None:
    alone = replace(SMALL, workers=1, spread=0)
    got = simulate(alone)
    cores = 1 / (1 / alone.send + 1 / alone.generate)
    rate = min(alone.stream, alone.network, alone.cores * cores)
    assert got.seconds == pytest.approx(alone.megabytes / rate)
    assert got.generated == pytest.approx(alone.megabytes)


def test_a_herd_that_comes_at_once_is_generated_for_once_on_each_replica() -> None:
    herd = replace(SMALL, spread=0, streams=SMALL.workers)
    assert simulate(herd).generated == pytest.approx(herd.replicas * herd.megabytes)


def test_without_a_cache_latecomers_have_it_made_again() -> None:
    assert simulate(replace(SMALL, cache=0)).generated > 2 * simulate(SMALL).generated


def test_no_replica_sends_faster_than_it_can() -> None:
    for replicas in (1, 4, 16):
        fleet = replace(SMALL, replicas=replicas)
        got = simulate(fleet)
        capacity = min(fleet.network, fleet.cores * fleet.send) * replicas
        assert got.seconds >= got.sent / capacity
        assert got.core_seconds <= got.seconds * fleet.cores * replicas * (1 + 1e-9)


def test_fewer_replicas_than_the_break_even_are_slower_than_in_process() -> None:
    fleet = replace(SMALL, generate=7, spread=0)
    few = break_even(fleet) // 2
    assert simulate(replace(fleet, replicas=few)).seconds > in_process(fleet)[0]
