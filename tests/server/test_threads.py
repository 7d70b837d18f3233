"""A server makes as many chunks at once as it is given CPUs, unless it is given a number."""

from __future__ import annotations

import os
import threading
import time

import grpc
import numpy as np
import pytest
from initcore import Plan, VirtualFile, normal
from initcore.machine import cpus
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.config.server_config import CommandConfig
from initserver.process.workers import Workers
from numpy.typing import NDArray

AFFINITY = len(os.sched_getaffinity(0))
PLAN = to_proto(Plan({"w": normal((3, 1 << 18))}))


@pytest.fixture(params=[0.5, 1.5, None])
def quota(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float | None:
    monkeypatch.delenv("INITSERVE_THREADS", raising=False)
    monkeypatch.setattr(cpus, "_own_quota", lambda: request.param)
    return request.param


@pytest.fixture(autouse=True)
def slow_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool has no thread in use again before all chunks of a stream have begun."""
    read_into = VirtualFile.read_into

    def slow(self: VirtualFile, offset: int, out: NDArray[np.uint8]) -> None:
        time.sleep(0.2)
        read_into(self, offset, out)

    monkeypatch.setattr(VirtualFile, "read_into", slow)


def chunk_threads(threads: int | None) -> int:
    """Threads in which a server made the chunks of a file of 3 MiB."""
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", threads=threads, grace=0)
    before = set(threading.enumerate())
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        request = service_pb2.FetchRequest(plan=PLAN)
        list(service_pb2_grpc.InitServiceStub(channel).Fetch(request, timeout=30))
        names = [one.name for one in set(threading.enumerate()) - before]
    return sum(name.startswith("initserver-chunk") for name in names)


def expected(quota: float | None) -> int:
    return AFFINITY if quota is None else min(AFFINITY, {0.5: 1, 1.5: 2}[quota])


def test_a_server_has_a_thread_for_each_cpu_of_its_quota(quota: float | None) -> None:
    # A stream has three chunks on their way, so more threads than that are not seen.
    assert chunk_threads(None) == min(expected(quota), 3)


def test_workers_share_the_cpus_of_their_quota(quota: float | None) -> None:
    server = ServerConfig(listen="127.0.0.1:0", backend="numpy")
    workers = Workers(server, CommandConfig(workers=2))
    try:
        assert workers._config.threads == max(1, expected(quota) // 2)
    finally:
        workers._end_at_once()


def test_a_number_that_is_given_wins_over_quota_and_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpus, "_own_quota", lambda: 0.5)
    monkeypatch.setenv("INITSERVE_THREADS", "1")
    assert chunk_threads(3) == 3
