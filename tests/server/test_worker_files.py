"""The files of workers' metrics: their room on the disk, and what stays of workers that end."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from initserver.observe import FOLDER_VARIABLE, worker_files

from tests.server.processes import running, wait_for
from tests.server.test_metrics import FETCH, read, value
from tests.server.test_workers import (
    WORKERS,
    fetch,
    listeners,
    processes_of,
    wait_for_stand_by,
    workers_of,
)

_EVERY_SERIES = """
import sys
import grpc
from initserve.v1 import plan_pb2
from initserver.observe import PrometheusMetrics
metrics = PrometheusMetrics("a-backend-of-a-long-name")
methods = [f"package.of.some.length.Service/Method{n}" for n in range(10)]
for method in methods:
    metrics.call_seconds.observe(1, method)
    for code in grpc.StatusCode:
        metrics.calls.add(1, method, code.name)
for scheme in plan_pb2.Scheme.keys():
    metrics.elements.add(1, scheme)
metrics.generation_seconds.observe(1)
metrics.certificate_expiry_timestamp_seconds.set(1)
"""


def test_the_room_that_a_worker_reserves_is_enough_for_every_series(tmp_path: Path) -> None:
    environment = os.environ | {FOLDER_VARIABLE: str(tmp_path)}
    subprocess.run([sys.executable, "-c", _EVERY_SERIES], env=environment, check=True)
    files = list(tmp_path.glob("*.db"))
    assert {path.name.rpartition("_")[0] for path in files} == worker_files._kinds()
    for path in files:
        # The file's first number is how much of it is used.
        assert 0 < struct.unpack("i", path.read_bytes()[:4])[0] < worker_files._ROOM / 2, path


def test_the_counts_of_workers_that_crashed_need_no_more_files(tmp_path: Path) -> None:
    arguments = (*WORKERS, "--metrics-listen", "127.0.0.1:0")
    with running(*arguments, TMPDIR=str(tmp_path)) as server:
        address, metrics = server.address, server.metrics.removeprefix("http://")
        (folder,) = tmp_path.glob("initserver-metrics-*")
        wait_for_stand_by(server, 1)
        counts = []
        for number in range(1, 4):
            for _ in range(4):
                fetch(address)
            wait_for(lambda n=number: _fetched(metrics) == 4 * n)  # type: ignore[misc]
            for pid in workers_of(server):
                os.kill(pid, signal.SIGKILL)
            wait_for_stand_by(server, number + 1)
            wait_for(lambda: listeners(address, server) == 2, 60)
            found = sorted(path.name.partition("_")[0] for path in folder.iterdir())
            counts.append(found)
            living = {str(pid) for pid in processes_of(server)} | {"ended"}
            names = {path.stem.rpartition("_")[2] for path in folder.glob("*.db")}
            assert names <= living, names
            assert _fetched(metrics) == 4 * number
        assert counts[0] == counts[1] == counts[2]
        assert value(read(metrics), "call_seconds_count", method=FETCH) == 12


def _fetched(metrics: str) -> float:
    return value(read(metrics), "calls_total", method=FETCH, code="OK")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_under_the_metrics_takes_no_worker_away(small_disk: Path) -> None:
    arguments = (*WORKERS, "--metrics-listen", "127.0.0.1:0")
    with running(*arguments, TMPDIR=str(small_disk)) as server:
        address, metrics = server.address, server.metrics.removeprefix("http://")
        wait_for_stand_by(server, 1)
        with suppress(OSError), (small_disk / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(4096))
                ballast.flush()
        for _ in range(8):
            assert fetch(address)
        wait_for(lambda: _fetched(metrics) == 8)
        assert "has ended" not in "".join(server.log)
        # A worker that finds no room serves too, without metrics.
        for pid in processes_of(server):
            os.kill(pid, signal.SIGKILL)
        server.line("the calls of this worker are not in the metrics: .*No space left on device")
        wait_for_stand_by(server, 2)
        wait_for(lambda: listeners(address, server) == 2, 60)
        for _ in range(8):
            assert fetch(address)
        assert _fetched(metrics) >= 8
        assert "SIGBUS" not in "".join(server.log)
