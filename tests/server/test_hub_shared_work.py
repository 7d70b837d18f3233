"""Clients over HTTP share work with each other and with gRPC, as gRPC's callers do.

`TEST_FILE_MIB=1024` in the environment has the file of a gibibyte.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from pathlib import Path

import initclient as ic
from initcore import Plan, normal
from initserver import Limits, Server

from tests.server.hub import ask, put, serving

CLIENTS = 64
SIZE = 8 << 20
PLAN = Plan({"w": normal((SIZE // 4,))}, seed=3)
# Larger than what connections hold on their way.
LARGE_SIZE = int(os.environ.get("TEST_FILE_MIB", "32")) << 20
LARGE = Plan({"w": normal((LARGE_SIZE // 4,))}, seed=3)
PATH = "/large/resolve/main/model.safetensors"
PIECE = 1 << 20


def generated(server: Server) -> float:
    """Bytes generated so far."""
    assert server.metrics is not None
    lines = server.metrics.text()[0].decode().splitlines()
    series = "initserver_generated_bytes_total{"
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def downloads(server: Server, longest_pause: float) -> None:
    """All clients read the file, each at a pace of its own."""
    host, _, port = server.hub_address.rpartition(":")
    whole = ask(server, PATH).body if longest_pause else b""
    wrong: list[int] = []
    start = threading.Barrier(CLIENTS)

    def read(number: int) -> None:
        draw = random.Random(number)
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        start.wait()
        time.sleep(draw.random() * longest_pause)
        connection.request("GET", PATH)
        response = connection.getresponse()
        size, same = 0, True
        while data := response.read(PIECE):
            same &= not whole or data == whole[size : size + len(data)]
            size += len(data)
            time.sleep(draw.random() * longest_pause / 8)
        if not same or size != int(response.headers["Content-Length"]):
            wrong.append(number)
        connection.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_clients_that_start_together_share_one_generation(tmp_path: Path) -> None:
    put(tmp_path / "large", LARGE)
    # A little less than the file needs to be kept whole.
    limits = Limits(cache_bytes=LARGE_SIZE * 4 // 3 - (1 << 20))
    with serving(tmp_path, metrics_listen="127.0.0.1:0", limits=limits) as server:
        downloads(server, 0.0)
        times = generated(server) / LARGE_SIZE
        print(f"{CLIENTS} clients together: {times:.2f} generations")
        assert times <= 1.1


def test_clients_at_any_pace_share_a_file_that_fits(tmp_path: Path) -> None:
    put(tmp_path / "large", PLAN)
    limits = Limits(cache_bytes=SIZE * 4 // 3 + (1 << 20))
    with serving(tmp_path, metrics_listen="127.0.0.1:0", limits=limits) as server:
        downloads(server, 0.5)
        # gRPC has the same chunks.
        ic.fetch(PLAN, target=server.address)
        times = generated(server) / SIZE
        print(f"{CLIENTS} clients at any pace, and gRPC: {times:.2f} generations")
        assert times <= 1.1
