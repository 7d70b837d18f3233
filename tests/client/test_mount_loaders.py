"""transformers and torch.distributed.checkpoint read a mounted folder: the bits of the plan."""

from __future__ import annotations

from pathlib import Path

import initclient as ic
import pytest
import torch
from torch.distributed.checkpoint import HuggingFaceStorageReader, load

from tests.client.test_files_loaders import llama, plan_of
from tests.client.test_mount import mounted, mounts

pytestmark = [
    mounts,
    pytest.mark.filterwarnings("ignore::initclient.PlanWarning"),
    # torch's own words about a load without a process group.
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
]

SIZES = pytest.mark.parametrize("shard_size", ["5GB", "20KB"], ids=["one file", "shards"])


@SIZES
def test_transformers_loads_a_mounted_model_folder(tmp_path: Path, shard_size: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = llama(tied=False)
    plan = plan_of(config)
    folder = tmp_path / "folder"
    config.save_pretrained(folder)
    ic.dump_plan(plan, folder / "plan.yaml")
    with mounted(tmp_path / "at", str(folder), "--shard-size", shard_size):
        # The bytes are read, or mapped and touched, while the mount is there.
        loaded, found = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "at", output_loading_info=True
        )
        assert not any(found.values()), found
        state = {name: value.clone() for name, value in loaded.state_dict().items()}
        del loaded
    same(state, plan)


@SIZES
def test_the_reader_of_torch_distributed_reads_a_mounted_folder(
    tmp_path: Path, shard_size: str
) -> None:
    plan = plan_of(llama(tied=False))
    ic.dump_plan(plan, tmp_path / "plan.yaml")
    state = {name: torch.empty(tensor.shape) for name, tensor in plan.tensors.items()}
    with mounted(tmp_path / "at", str(tmp_path / "plan.yaml"), "--shard-size", shard_size):
        reader = HuggingFaceStorageReader(str(tmp_path / "at"))
        load(state, storage_reader=reader, no_dist=True)
    same(state, plan)


def same(state: dict[str, torch.Tensor], plan: ic.Plan) -> None:
    expected = ic.fetch(plan, target="local")
    assert set(state) == set(expected)
    for name, array in expected.items():
        assert state[name].numpy().tobytes() == array.tobytes(), name
