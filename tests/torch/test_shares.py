"""Each rank of N reads an Nth of the bytes, and its memory never holds a whole sharded tensor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.server.processes import running
from tests.torch.launching import run_ranks


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_each_of_four_ranks_reads_and_holds_its_quarter(tmp_path: Path) -> None:
    with running("--metrics-listen", "127.0.0.1:0") as server:
        targets = {"SERVER": server.address, "METRICS": server.metrics + "/metrics"}
        outputs = run_ranks("tests.torch.shares", 4, tmp_path / "rendezvous", **targets)
    for rank, (status, text) in enumerate(outputs):
        assert status == 0, text
        for target in (targets["SERVER"], "local"):
            for layout in ("fsdp2", "tensor_parallel"):
                assert f"rank {rank}: {layout} from {target}" in text
