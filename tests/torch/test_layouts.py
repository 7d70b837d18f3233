"""FSDP2, tensor and pipeline parallelism, any placement: one process's bits in each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torch.launching import run_ranks

LAYOUTS = {
    2: ["fsdp2", "any_placement", "tensor_parallel", "wrapped", "flattened", "pipeline_stages"],
    3: ["fsdp2", "any_placement"],
    4: [
        "fsdp2",
        "any_placement",
        "tensor_parallel",
        "hybrid",
        "fsdp2_with_tensor_parallel",
        "pipeline_with_tensor_parallel",
        "pipeline_with_fsdp2",
    ],
}


@pytest.mark.parametrize("world", LAYOUTS)
def test_ranks_together_hold_what_one_process_holds(world: int, tmp_path: Path) -> None:
    outputs = run_ranks("tests.torch.ranks", world, tmp_path / "rendezvous")
    for rank, (status, text) in enumerate(outputs):
        assert status == 0, text
        for layout in LAYOUTS[world]:
            assert f"rank {rank}: {layout} equals one process" in text
