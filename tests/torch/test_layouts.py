"""FSDP2, tensor parallelism and any placement, over processes: one process's bits in each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYOUTS = {
    2: ["fsdp2", "any_placement", "tensor_parallel", "wrapped", "flattened"],
    3: ["fsdp2", "any_placement"],
    4: ["fsdp2", "any_placement", "tensor_parallel", "hybrid", "fsdp2_with_tensor_parallel"],
}


@pytest.mark.parametrize("world", LAYOUTS)
def test_ranks_together_hold_what_one_process_holds(world: int, tmp_path: Path) -> None:
    outputs = run_ranks(world, tmp_path / "rendezvous")
    for rank, (status, text) in enumerate(outputs):
        assert status == 0, text
        for layout in LAYOUTS[world]:
            assert f"rank {rank}: {layout} equals one process" in text


def run_ranks(world: int, rendezvous: Path) -> list[tuple[int, str]]:
    """Exit status and output of each rank."""
    environment = {
        **os.environ,
        "WORLD_SIZE": str(world),
        "RENDEZVOUS": str(rendezvous),
        # gloo listens where the host's name points otherwise.
        "GLOO_SOCKET_IFNAME": "lo",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.torch.ranks"],
            cwd=ROOT,
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        return [(rank.returncode, text) for rank in ranks for text in [rank.communicate(180)[0]]]
    finally:
        for rank in ranks:
            rank.kill()
