"""Plans that take values from checkpoints, served: by range, checked, and only where allowed."""

from __future__ import annotations

from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from initserver import Limits, Server, ServerConfig
from safetensors.numpy import save_file

# That the bits are fixed only with a SHA-256.
pytestmark = pytest.mark.filterwarnings("ignore::initclient.PlanWarning")

BACKBONE = {"body.weight": np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(BACKBONE, tmp_path / "backbone.safetensors")
    return tmp_path


PLAN = ic.Plan(
    {
        "body.weight": ic.pretrained((1024, 1024), "backbone.safetensors"),
        "head.weight": ic.kaiming_normal((10, 1024)),
    },
    7,
)


def test_a_served_backbone_is_the_checkpoint_s_and_the_head_a_seed_s(folder: Path) -> None:
    config = ServerConfig(listen="127.0.0.1:0", checkpoints=str(folder))
    head = ic.fetch(PLAN.select(["head.weight"]), target="local")["head.weight"]
    with Server(config) as server:
        got = ic.fetch(PLAN, target=server.address)
        part = ic.fetch(PLAN.shard({"body.weight": (slice(3, 5), slice(7))}), target=server.address)
    assert np.array_equal(got["body.weight"], BACKBONE["body.weight"])
    assert np.array_equal(got["head.weight"], head)
    assert np.array_equal(part["body.weight"], BACKBONE["body.weight"][3:5, :7])


def test_a_server_without_a_folder_says_so() -> None:
    with (
        Server(ServerConfig(listen="127.0.0.1:0")) as server,
        pytest.raises(ic.PlanError, match="--checkpoints") as caught,
    ):
        ic.fetch(PLAN, target=server.address)
    (violation,) = caught.value.violations
    assert (violation.tensor, violation.field) == ("body.weight", "checkpoint")


def test_a_folder_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ic.CheckpointError, match="does not exist"):
        Server(ServerConfig(listen="127.0.0.1:0", checkpoints="/nowhere"))


def test_a_checkpoint_that_changes_during_a_download_is_an_error(folder: Path) -> None:
    config = ServerConfig(
        listen="127.0.0.1:0", checkpoints=str(folder), limits=Limits(cache_bytes=0)
    )
    plan = PLAN.select(["body.weight"])
    with Server(config) as server:
        ic.fetch(plan, target=server.address)
        save_file({"body.weight": BACKBONE["body.weight"] + 1}, folder / "backbone.safetensors")
        with pytest.raises(ic.InitserveError, match="has changed"):
            ic.fetch(plan, target=server.address)


def test_parts_count_as_tensors() -> None:
    config = ServerConfig(listen="127.0.0.1:0", limits=Limits(max_tensors=20))
    experts = {f"experts.{i}": ic.normal((2, 2)) for i in range(19)}
    with Server(config) as server:
        got = ic.fetch({"experts": ic.stack(experts)}, seed=7, target=server.address)
        assert got["experts"].shape == (19, 2, 2)
        nested = ic.stack([("a", ic.stack(experts))])
        with pytest.raises(ic.LimitError, match="parts included"):
            ic.fetch({"experts": nested}, seed=7, target=server.address)


def test_a_stack_of_a_thousand_experts_is_served() -> None:
    experts = {f"layers.0.experts.{i}.weight": ic.normal((3, 2)) for i in range(1000)}
    with Server(ServerConfig(listen="127.0.0.1:0")) as server:
        got = ic.fetch({"experts": ic.stack(experts)}, seed=7, target=server.address)
    assert np.array_equal(
        got["experts"], np.stack(list(ic.fetch(experts, seed=7, target="local").values()))
    )
