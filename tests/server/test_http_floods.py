"""One caller floods an HTTP port of the real command: all others wait less than half a second."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from initcore import Plan, normal

from tests.server.http_floods import (
    FLOODS,
    LARGE_BYTES,
    WEIGHTS,
    Address,
    Others,
    flooded,
    heads_again_and_again,
)
from tests.server.hub import llama, put
from tests.server.processes import Running, running
from tests.server.test_shared_work import counted

SECONDS = 0.5
HEADS, CONNECTIONS = 800, 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = tmp_path_factory.mktemp("models")
    put(models / "small", llama())
    put(models / "large", Plan({"w": normal((1 << 14, LARGE_BYTES >> 16))}, seed=5))
    ports = ("--hub-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    with running("--models", str(models), *ports, "--backend", "native") as server:
        yield server


@pytest.fixture(scope="module")
def others(server: Running) -> Others:
    found = Others(server.address, hub(server), urlsplit(server.metrics).netloc)
    found.waits(least=3)  # every model is read once
    return found


@pytest.fixture(scope="module")
def quiet(others: Others) -> dict[str, list[float]]:
    """The waits without a flood: what the machine's other work adds."""
    return others.waits()


def hub(server: Running) -> str:
    return server.line(r"Hub endpoint at http://([^\s,]+)")[1]


def port(address: str) -> Address:
    host, _, number = address.rpartition(":")
    return host, int(number)


def assert_short(waits: dict[str, list[float]], quiet: dict[str, list[float]]) -> None:
    """Nine of ten, since a machine may stand still in one."""
    report = {name: f"{at(found, 0.9):.3f} of {len(found)}" for name, found in waits.items()}
    print(report)
    for name, found in waits.items():
        assert len(found) >= 10, report
        assert at(found, 0.9) < SECONDS + at(quiet[name], 0.99), (report, name)


def at(waits: list[float], share: float) -> float:
    return waits[min(len(waits) - 1, int(share * len(waits)))]


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("where", ["hub", "metrics"])
def test_a_flood_keeps_nobody_waiting(
    server: Running, others: Others, quiet: dict[str, list[float]], where: str, flood: str
) -> None:
    """Health, both HTTP ports, and the first byte over gRPC and over HTTP."""
    address = hub(server) if where == "hub" else urlsplit(server.metrics).netloc
    path = WEIGHTS if where == "hub" else "/metrics"
    with flooded(FLOODS[flood], port(address), path):
        assert_short(others.waits(), quiet)


def test_a_flood_of_heads_computes_nothing_and_keeps_nobody_waiting(
    server: Running, others: Others, quiet: dict[str, list[float]]
) -> None:
    before = counted(server, "generated_bytes_total")
    context = multiprocessing.get_context("spawn")
    stop, rounds = context.Event(), context.SimpleQueue()
    process = context.Process(
        target=heads_again_and_again,
        args=(port(hub(server)), HEADS, CONNECTIONS, stop, rounds),
        daemon=True,
    )
    process.start()
    try:
        first = rounds.get()
        waits = others.waits("health", "ready", "config")
        stop.set()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
    all_rounds = [first]
    while not rounds.empty():
        all_rounds.append(rounds.get())
    print(f"{len(all_rounds)} rounds, the longest {max(took for _, took in all_rounds):.2f} s")
    assert all(sent == HEADS for sent, _ in all_rounds)
    assert max(took for _, took in all_rounds) < 30
    assert counted(server, "generated_bytes_total") == before > 0
    assert_short(waits, quiet)
