"""One caller floods an HTTP port of the real command: all others wait less than half a second."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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
    heads,
)
from tests.server.hub import llama, put
from tests.server.processes import Running, running, wait_for
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
    rounds: list[tuple[int, float]] = []
    stop = threading.Event()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:

        def ask_again_and_again() -> None:
            while not stop.is_set():
                flood = process.submit(heads, port(hub(server)), HEADS, CONNECTIONS)
                rounds.append(flood.result())

        thread = threading.Thread(target=ask_again_and_again)
        thread.start()
        try:
            wait_for(lambda: rounds or not thread.is_alive(), 100)
            waits = others.waits("health", "ready", "config")
        finally:
            stop.set()
            thread.join()
    print(f"{len(rounds)} rounds, the longest {max(took for _, took in rounds):.2f} s")
    assert all(sent == HEADS for sent, _ in rounds)
    assert max(took for _, took in rounds) < 30
    assert counted(server, "generated_bytes_total") == before > 0
    assert_short(waits, quiet)
