"""Several processes share a port: they are replaced when they crash and drain together."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import grpc
import psutil
import pytest
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver.cli import main

from tests.server.processes import Running, running, wait_for
from tests.server.test_metrics import FETCH, read, value

WORKERS = ("--workers", "2")
LOCAL = [("grpc.use_local_subchannel_pool", 1)]
SMALL = service_pb2.FetchRequest(plan=to_proto(Plan({"w": normal((1000,))})))
LARGE = service_pb2.FetchRequest(plan=to_proto(Plan({"w": normal((3000, 1000))})))


def workers_of(server: Running) -> dict[int, psutil.Process]:
    """The processes that listen."""
    return {
        child.pid: child
        for child in psutil.Process(server.process.pid).children()
        if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
    }


def fetch(address: str) -> int:
    """Bytes of a download over a connection of its own."""
    with grpc.insecure_channel(address, LOCAL) as channel:
        call = service_pb2_grpc.InitServiceStub(channel).Fetch(
            SMALL, timeout=20, wait_for_ready=True
        )
        return sum(len(message.chunk.data) for message in call)


def listeners(address: str, server: Running) -> int:
    """How many workers listen at the port."""
    port = int(address.rpartition(":")[2])
    return sum(
        any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in one.net_connections())
        for one in workers_of(server).values()
    )


def test_workers_share_a_port_and_are_replaced_and_drain_together(tmp_path: Path) -> None:
    with running(*WORKERS, "--metrics-listen", "127.0.0.1:0", TMPDIR=str(tmp_path)) as server:
        address, metrics = server.address, server.metrics.removeprefix("http://")
        first = workers_of(server)
        assert len(first) == 2
        assert listeners(address, server) == 2
        sizes = [fetch(address) for _ in range(8)]
        wait_for(lambda: value(read(metrics), "calls_total", method=FETCH, code="OK") == 8)
        assert value(read(metrics), "sent_bytes_total") == sum(sizes)

        victim = next(iter(first))
        os.kill(victim, signal.SIGKILL)
        server.line(rf"pid {victim}, has ended \(SIGKILL\)")
        server.line(r"worker \d is ready")
        second = workers_of(server)
        assert len(second) == 2
        assert victim not in second
        assert listeners(address, server) == 2
        sizes += [fetch(address) for _ in range(8)]
        # What the crashed one counted is not lost.
        wait_for(lambda: value(read(metrics), "calls_total", method=FETCH, code="OK") == 16)
        assert value(read(metrics), "worker_restarts_total") == 1

        assert list(tmp_path.glob("initserver-metrics-*"))
        with grpc.insecure_channel(address, LOCAL) as channel:
            call = service_pb2_grpc.InitServiceStub(channel).Fetch(LARGE, timeout=60)
            size = next(call).info.total_size
            server.process.send_signal(signal.SIGTERM)
            for message in call:
                size -= len(message.chunk.data)
                time.sleep(0.1)
            assert size == 0
        assert server.end() == 0
        assert all(not one.is_running() for one in second.values())
        assert not list(tmp_path.glob("initserver-metrics-*"))


def test_a_signal_to_the_whole_group_drains_once() -> None:
    # As a terminal's Ctrl-C and systemd send it: to the workers too.
    with running(*WORKERS) as server, grpc.insecure_channel(server.address, LOCAL) as channel:
        call = service_pb2_grpc.InitServiceStub(channel).Fetch(LARGE, timeout=60)
        size = next(call).info.total_size
        pids = [*workers_of(server), server.process.pid]
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        for message in call:
            size -= len(message.chunk.data)
            time.sleep(0.1)
        assert size == 0
        assert server.end() == 0
        assert "has ended" not in "".join(server.log)


def test_a_signal_to_one_worker_drains_and_replaces_it() -> None:
    with running(*WORKERS) as server:
        address = server.address
        first = next(iter(workers_of(server)))
        os.kill(first, signal.SIGTERM)
        server.line(rf"pid {first}, has ended \(exit status 0\)")
        server.line(r"worker \d is ready")
        assert fetch(address)
        assert len(workers_of(server)) == 2


def test_a_second_signal_ends_all_workers_at_once() -> None:
    with running(*WORKERS, "--grace", "60") as server:
        with grpc.insecure_channel(server.address, LOCAL) as channel:
            plan = to_proto(Plan({"w": normal((1 << 20, 1 << 20))}))
            call = service_pb2_grpc.InitServiceStub(channel).Fetch(
                service_pb2.FetchRequest(plan=plan), timeout=60
            )
            next(call)
            workers = workers_of(server)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.end(10) == 128 + signal.SIGTERM
        wait_for(lambda: not any(one.is_running() for one in workers.values()))


def test_workers_end_when_the_process_above_them_is_gone() -> None:
    with running(*WORKERS, "--grace", "1") as server:
        assert server.address
        workers = workers_of(server)
        server.process.kill()
        wait_for(lambda: not any(one.is_running() for one in workers.values()))


def test_workers_that_cannot_start_are_one_sentence_and_a_status(tmp_path: Path) -> None:
    missing = tmp_path / "tokens"
    with running(*WORKERS, "--token-file", str(missing)) as server:
        assert server.end() == 2
    assert server.log == [
        f"initserver: error: --token-file is '{missing}'; it cannot be read: "
        "No such file or directory\n"
    ]


def test_a_port_in_use_is_noticed_although_workers_could_share_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with running(*WORKERS) as server:
        for arguments in (WORKERS, ()):
            assert main(["--backend", "numpy", "--listen", server.address, *arguments]) == 2
            assert re.fullmatch(
                rf"initserver: error: cannot listen at {server.address}: Address already in use\n",
                capfd.readouterr().err,
            )


def test_the_downloads_of_a_worker_that_crashed_are_in_flight_no_more() -> None:
    plan = to_proto(Plan({"w": normal((1 << 20, 1 << 20))}))
    with running(*WORKERS, "--metrics-listen", "127.0.0.1:0") as server:
        address, metrics = server.address, server.metrics.removeprefix("http://")
        with grpc.insecure_channel(address, LOCAL) as channel:
            call = service_pb2_grpc.InitServiceStub(channel).Fetch(
                service_pb2.FetchRequest(plan=plan), timeout=60
            )
            next(call)
            wait_for(lambda: value(read(metrics), "streams_in_flight") == 1)
            for pid in workers_of(server):
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(grpc.RpcError):
                list(call)
        wait_for(lambda: value(read(metrics), "streams_in_flight") == 0)
        assert value(read(metrics), "worker_restarts_total") >= 1
