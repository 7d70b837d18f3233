"""A download survives failures of servers and network, and its bits are always the plan's."""

from __future__ import annotations

import filecmp
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import initclient as ic
import numpy as np
import pytest

from tests.client.processes import Process, running, serving
from tests.client.proxies import Kind, Mischief, proxied

MIB = 1 << 20
PATIENT = ic.Retry(attempts=20, base_delay=0.02, max_delay=1.0, idle_timeout=3.0)


def plan_of(mebibytes: int, seed: int = 3) -> ic.Plan:
    rows = mebibytes * MIB // 4 // 1024
    half = ic.normal((rows // 2, 1024), std=0.02)
    return ic.Plan({"head": ic.zeros((3,)), "a": half, "b": ic.uniform((rows // 2, 1024))}, seed)


def hashed(weights: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(array.data).hexdigest() for name, array in weights.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running(1) as (process,):
        yield process.address


@pytest.fixture(scope="module")
def medium() -> tuple[ic.Plan, dict[str, str]]:
    plan = plan_of(96)
    return plan, hashed(ic.fetch(plan, target="local"))


@pytest.fixture(scope="module")
def large() -> tuple[ic.Plan, dict[str, str]]:
    """A gibibyte, and its bits as made in this process."""
    plan = plan_of(1024)
    return plan, hashed(ic.fetch(plan, target="local", backend="native"))


def test_kill_nine_four_times_in_a_gibibyte(large: tuple[ic.Plan, dict[str, str]]) -> None:
    """Three servers; the serving one is killed at random moments, and restarts later."""
    plan, expected = large
    draw = random.Random()
    moments = sorted(draw.uniform(0.03, 0.97) for _ in range(4))
    reached = [threading.Event() for _ in moments]

    def progress(done: int, total: int) -> None:
        for moment, event in zip(moments, reached, strict=True):
            if done >= moment * total:
                event.set()

    with running(3) as servers:

        def kill() -> None:
            for event in reached:
                event.wait()
                time.sleep(draw.uniform(0, 0.02))
                victim = None
                while victim is None and not over.is_set():
                    victim = serving(servers)
                if victim:
                    victim.kill()
                    victim.start()

        over = threading.Event()
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            weights = ic.fetch(
                plan,
                target=[server.address for server in servers],
                retry=PATIENT,
                timeout=150,
                progress=progress,
                streams=1,
            )
        finally:
            over.set()
            for event in reached:
                event.set()
            killer.join()
        assert sum(server.kills for server in servers) == 4
    assert hashed(weights) == expected, moments


def mischief(seed: int, kinds: list[Kind], count: int, most: int) -> list[Mischief]:
    draw = random.Random(seed)
    return [
        Mischief(draw.choice(kinds), draw.randrange(200, most), draw.randrange(8))
        for _ in range(count)
    ]


KINDS: list[Kind] = ["cut", "delay", "duplicate", "flip", "drop"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_network(kind: Kind, server: str, medium: tuple[ic.Plan, dict[str, str]]) -> None:
    plan, expected = medium
    todo = mischief(7, [kind], 30, 12 * MIB)
    with proxied(server, todo) as proxy:
        weights = ic.fetch(plan, target=proxy.address, retry=PATIENT, timeout=120, streams=1)
    assert hashed(weights) == expected
    assert len(proxy.done) >= 6


def test_everything_at_once_in_a_gibibyte(
    server: str, large: tuple[ic.Plan, dict[str, str]]
) -> None:
    plan, expected = large
    seed = random.Random().randrange(2**32)
    todo = [mischief(seed + n, [*KINDS, "stall"], 12, 16 * MIB) for n in range(3)]
    with (
        proxied(server, todo[0]) as a,
        proxied(server, todo[1]) as b,
        proxied(server, todo[2]) as c,
    ):
        addresses = [a.address, b.address, c.address]
        weights = ic.fetch(plan, target=addresses, retry=PATIENT, timeout=200, streams=3)
        done = [*a.done, *b.done, *c.done]
    assert hashed(weights) == expected, seed
    assert len(done) >= 10


def test_everything_at_once_in_parallel_streams_to_a_file(
    server: str, medium: tuple[ic.Plan, dict[str, str]], tmp_path: Path
) -> None:
    plan, _ = medium
    with (
        proxied(server, mischief(1, KINDS, 20, 4 * MIB)) as one,
        proxied(server, mischief(2, KINDS, 20, 4 * MIB)) as other,
    ):
        path = ic.fetch_file(
            plan,
            tmp_path / "out.safetensors",
            target=[one.address, other.address],
            retry=PATIENT,
            timeout=120,
            streams=3,
        )
    here = ic.fetch_file(plan, tmp_path / "here.safetensors", target="local")
    assert filecmp.cmp(path, here, shallow=False)
    assert len(one.done) + len(other.done) >= 10
    assert {p.name for p in tmp_path.iterdir()} == {"out.safetensors", "here.safetensors"}


SMALL = ic.Plan({"w": ic.normal((64, 64))}, seed=5)


@pytest.mark.parametrize("at", range(0, 500, 7))
def test_a_flipped_byte_anywhere_in_the_first_ones(at: int, target: str) -> None:
    """Damages HTTP/2's own frames and the file's info, which have no checksums."""
    with proxied(target, [Mischief("flip", at, at % 8, anywhere=True)]) as proxy:
        weights = ic.fetch(SMALL, target=proxy.address, retry=PATIENT, timeout=60)
    assert hashed(weights) == hashed(ic.fetch(SMALL))


def test_a_connection_that_falls_silent_is_left(target: str) -> None:
    """A black hole: the connection stays open, but no byte comes."""
    retry = ic.Retry(idle_timeout=0.5, base_delay=0.01)
    holes = [Mischief("stall", 5000)] * 100
    with proxied(target, holes) as hole, proxied(target, holes[:1]) as other:
        start = time.monotonic()
        weights = ic.fetch(SMALL, target=[hole.address, other.address], retry=retry)
        assert 0.4 < time.monotonic() - start < 5
    assert hashed(weights) == hashed(ic.fetch(SMALL))


def test_the_deadline_holds_in_a_black_hole(target: str) -> None:
    with proxied(target, [Mischief("stall", 0)] * 100) as hole:
        start = time.monotonic()
        with pytest.raises(ic.DeadlineError, match=r"timeout of 1 s leaves no time.*last of"):
            ic.fetch(SMALL, target=hole.address, retry=ic.Retry(idle_timeout=0.3), timeout=1)
        assert 0.3 < time.monotonic() - start < 5


def test_a_server_that_drains_hands_over(medium: tuple[ic.Plan, dict[str, str]]) -> None:
    plan, expected = medium
    with running(2, "--grace", "0") as servers:
        stopped: list[Process] = []

        def progress(done: int, total: int) -> None:
            if done > total / 3 and not stopped:
                victim = serving(servers)
                if victim:
                    stopped.append(victim)
                    victim.terminate()

        weights = ic.fetch(
            plan,
            target=",".join(server.address for server in servers),
            retry=PATIENT,
            timeout=60,
            progress=progress,
            streams=1,
        )
        assert stopped
    assert hashed(weights) == expected


def test_a_server_that_falls_silent_is_left_by_describe_too(target: str) -> None:
    retry = ic.Retry(idle_timeout=0.3, base_delay=0.01)
    plan = ic.Plan({"w": ic.normal((64, 64))}, seed=5)
    with proxied(target, [Mischief("stall", 0)] * 1000) as hole:
        start = time.monotonic()
        assert ic.describe(plan, target=[hole.address, target], retry=retry, timeout=20).size
        assert time.monotonic() - start < 5
