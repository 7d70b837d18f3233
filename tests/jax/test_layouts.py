"""Any number of devices, any layout, any number of processes: the bits of the one file."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import initclient as ic
import pytest

from tests.jax import trees
from tests.jax.launching import run
from tests.server.processes import running


def test_every_layout_on_up_to_eight_devices_equals_the_safetensors_file(tmp_path: Path) -> None:
    path = ic.fetch_file(trees.plan(), tmp_path / "init.safetensors", target="local")
    with running("--metrics-listen", "127.0.0.1:0") as server:
        targets = {"SERVER": server.address, "METRICS": server.metrics + "/metrics"}
        (text,) = run(["-m", "tests.jax.layouts", str(path)], devices=8, **targets)
    assert "20 layouts equal the file, and are verified" in text
    assert "what eight devices hold is sent once" in text


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_each_of_two_processes_reads_and_holds_its_half() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    with running("--metrics-listen", "127.0.0.1:0") as server:
        targets = {"SERVER": server.address, "METRICS": server.metrics + "/metrics"}
        ranks = [["-m", "tests.jax.processes", str(rank), "2", coordinator] for rank in range(2)]
        texts = run(*ranks, devices=1, **targets)
    for rank, text in enumerate(texts):
        assert text.count(f"process {rank}: ") == 4
