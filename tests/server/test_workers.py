"""Several processes share a port: they are replaced when they crash and drain together."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
    """The processes that listen, without the one that stands by."""
    port = int(server.address.rpartition(":")[2])
    return {pid: child for pid, child in processes_of(server).items() if listens(child, port)}


def processes_of(server: Running) -> dict[int, psutil.Process]:
    """All processes below the one that supervises them."""
    return {
        child.pid: child
        for child in psutil.Process(server.process.pid).children()
        if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
    }


def listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any(
            c.laddr.port == port and c.status == psutil.CONN_LISTEN
            for c in process.net_connections()
        )
    return False


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
    return sum(listens(one, port) for one in processes_of(server).values())


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
                rf"initserver: error: cannot listen at {server.address}: Address already in use; "
                r"another program .*\n",
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


def longest_gap(address: str, faults: Callable[[], None]) -> float:
    """The most seconds without an answer to a new connection, while `faults` runs."""
    answered = [time.monotonic()]
    gaps: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.05):
            with suppress(grpc.RpcError), grpc.insecure_channel(address, LOCAL) as channel:
                stub = service_pb2_grpc.InitServiceStub(channel)
                stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=20)
                gaps.append(time.monotonic() - answered[-1])
                answered.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        faults()
    finally:
        stop.set()
        asking.join(60)
    assert len(gaps) > 20
    return max(gaps)


def wait_for_stand_by(server: Running, times: int) -> None:
    """Waits until a process has said this often that it stands by."""
    wait_for(lambda: "".join(server.log).count(" stands by\n") >= times, 120)


@pytest.mark.parametrize("which", ["one worker", "all workers"])
def test_workers_that_crash_again_and_again_never_leave_the_port_alone(which: str) -> None:
    with running(*WORKERS) as server:
        address = server.address
        wait_for_stand_by(server, 1)

        def crash_again_and_again() -> None:
            for number in range(5):
                victims = list(workers_of(server))
                for pid in victims[:1] if which == "one worker" else victims:
                    os.kill(pid, signal.SIGKILL)
                wait_for_stand_by(server, number + 2)

        # Two seconds, and as much again for a machine with other work.
        gap = longest_gap(address, crash_again_and_again)
        assert gap < 4, gap
        assert "".join(server.log).count("has ended (SIGKILL)") >= 5
        wait_for(lambda: listeners(address, server) == 2, 60)


def test_what_killed_servers_leave_behind_goes_with_the_next_start(tmp_path: Path) -> None:
    arguments = (*WORKERS, "--metrics-listen", "127.0.0.1:0", "--grace", "1")
    found = f"{tmp_path}/initserver-metrics-*"
    foreign = tmp_path / "initserver-metrics-foreign"
    foreign.mkdir()

    def folders() -> set[str]:
        return set(glob.glob(found)) - {str(foreign)}

    with running(*arguments, TMPDIR=str(tmp_path)) as living:
        assert living.address
        (kept,) = folders()
        with running(*arguments, TMPDIR=str(tmp_path)) as killed:
            assert killed.address
            (left,) = folders() - {kept}
            processes = processes_of(killed)
            killed.process.kill()
            killed.process.wait()
            wait_for(lambda: not any(one.is_running() for one in processes.values()), 60)
        assert folders() == {kept, left}
        with running(*arguments, TMPDIR=str(tmp_path)) as third:
            assert third.address
            assert len(folders()) == 2
            assert kept in folders()
            assert left not in folders()
        # Never the folder of another server that lives, nor one that is not known to be ours.
        assert fetch(living.address)
        assert value(read(living.metrics.removeprefix("http://")), "sent_bytes_total") > 0
        assert foreign.exists()


def test_a_folder_stays_while_workers_of_a_killed_server_drain(tmp_path: Path) -> None:
    arguments = (*WORKERS, "--metrics-listen", "127.0.0.1:0", "--grace", "60")
    plan = to_proto(Plan({"w": normal((1 << 20, 1 << 20))}))
    with running(*arguments, TMPDIR=str(tmp_path)) as killed:
        with grpc.insecure_channel(killed.address, LOCAL) as channel:
            call = service_pb2_grpc.InitServiceStub(channel).Fetch(
                service_pb2.FetchRequest(plan=plan), timeout=120
            )
            next(call)
            (left,) = tmp_path.glob("initserver-metrics-*")
            killed.process.kill()
            killed.process.wait()
            with running(*arguments, TMPDIR=str(tmp_path)) as second:
                assert second.address
                assert left.exists()
            call.cancel()
        wait_for(lambda: not _is_held(left), 60)
        with running(*arguments, TMPDIR=str(tmp_path)) as third:
            assert third.address
            assert not left.exists()


def _is_held(folder: Path) -> bool:
    with (folder / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False
