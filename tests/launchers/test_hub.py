"""transformers with tensor parallelism reads the Hub endpoint: each rank's shards, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import initclient as ic
import pytest
import torch
from safetensors.torch import load_file

from tests.launchers.test_examples import torchrun
from tests.server.hub import llama, put, serving

RANKS = 2


@pytest.mark.parametrize("settings", ["", "shard_size: 20KB\n"], ids=["one file", "shards"])
def test_tensor_parallel_ranks_have_the_shards_of_fetch(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "models" / "acme" / "llama", llama(), settings)
    for name in ("XET", "TELEMETRY"):
        monkeypatch.setenv(f"HF_HUB_DISABLE_{name}", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    program = str(Path(__file__).with_name("hub_ranks.py"))
    with serving(tmp_path / "models") as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{server.hub_address}")
        torchrun(tmp_path, RANKS, program, "acme/llama", str(tmp_path))
    whole = ic.fetch(llama(), framework="torch", target="local")
    split = set()
    for rank in range(RANKS):
        shards = load_file(tmp_path / f"rank{rank}.safetensors")
        dimensions = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert shards.keys() == whole.keys()
        for name, value in whole.items():
            dimension = dimensions[name]
            if dimension is not None:
                split.add(name)
                value = value.chunk(RANKS, dimension)[rank]
            assert shards[name].dtype == value.dtype
            same = torch.equal(shards[name].view(torch.int16), value.contiguous().view(torch.int16))
            assert same, (rank, name)
    # Every matrix is split; norms are whole on each rank.
    assert whole.keys() - split == {name for name in whole if "norm" in name}
