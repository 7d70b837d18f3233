"""Processes fill a model from one plan, in one layout, with one version, or none of them does."""

from __future__ import annotations

from pathlib import Path

from tests.torch.launching import run_ranks


def test_every_rank_raises_where_ranks_disagree(tmp_path: Path) -> None:
    for rank, (status, text) in enumerate(run_ranks("tests.torch.agreeing", 2, tmp_path / "r")):
        assert status == 0, text
        assert f"rank {rank}: 12 agreements" in text
