"""torchtitan: its debug model draws other weights in each layout, and a plan has the same ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import digests
from tests.launchers.test_examples import PAGE, torchrun

LAYOUTS = {
    "1 process": (1, ""),
    "FSDP 2": (2, "--parallelism.spmd_backend partial_dtensor"),
    "TP 2": (
        2,
        "--parallelism.spmd_backend partial_dtensor --parallelism.tensor_parallel_degree 2",
    ),
}
COMMAND = (
    "torchrun --nproc-per-node {} -m tests.launchers.torchtitan_ranks --config llama3_on_cpu {}"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """For each layout, the findings of each rank."""
    results = {}
    for layout, (ranks, arguments) in LAYOUTS.items():
        folder = tmp_path_factory.mktemp("ranks")
        command = COMMAND.format(ranks, arguments).split()[3:]
        torchrun(folder, ranks, *command)
        files = [folder / f"rank{rank}.json" for rank in range(ranks)]
        results[layout] = [json.loads(file.read_text()) for file in files]
    return results


def test_its_own_weights_differ_between_layouts_and_those_of_a_plan_do_not(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    own = [{one["own"] for one in ranks} for ranks in found.values()]
    assert [len(hashes) for hashes in own] == [1, 1, 1]
    assert len(set.union(*own)) == 3
    ours = {one["hash"] for ranks in found.values() for one in ranks}
    assert ours == {one["one process"] for ranks in found.values() for one in ranks}
    assert len(ours) == 1
    for ranks in found.values():
        for one in ranks:
            digests.check("examples/launchers/torchtitan_llama3.py", one["built"])


def test_its_trainer_has_the_losses_of_one_process(found: dict[str, list[dict[str, Any]]]) -> None:
    reference = found["1 process"][0]["losses"]
    assert len(reference) == 2
    assert reference[0] != reference[1]
    for ranks in found.values():
        for one in ranks:
            assert one["losses"] == pytest.approx(reference, rel=2e-5)


def test_a_rank_makes_its_share_alone(found: dict[str, list[dict[str, Any]]]) -> None:
    for layout, ranks in found.items():
        for one in ranks:
            assert 1.0 <= one["bytes"] <= 1.05
            # Through torch.distributed.checkpoint.
            assert 1.0 <= one["read"] <= 1.05
            assert (one["sharded"] > 0) == (layout != "1 process")


def test_the_page_has_these_hashes_and_the_commands(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    rows = re.findall(r"^\| (.*?) \| `(\w{16})` \| `(\w{16})` \|$", PAGE, re.MULTILINE)
    assert {row[0] for row in rows} == set(LAYOUTS)
    for layout, _, hash_of_plan in rows:
        # torch's own draws may change between machines; a plan's never do.
        assert found[layout][0]["hash"].startswith(hash_of_plan)
    for ranks, arguments in LAYOUTS.values():
        assert COMMAND.format(ranks, arguments).strip() in re.sub(r" *\\\n *", " ", PAGE)


def test_the_lines_of_torchs_page_record_its_model() -> None:
    page = (Path(__file__).parents[2] / "docs" / "torch.md").read_text()
    (lines,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    # A model on meta, whose method is recorded, has the same plan.
    check = """
import torch
with torch.device("meta"):
    model = llama3_debugmodel().model_spec.model.build()
assert set(plan) == set(dict(model.named_parameters()))
assert plan == ict.record(model.init_weights).plan(seed=7)
assert plan["norm.weight"].scheme == "ones"
assert plan["tok_embeddings.weight"].scheme == "normal"
"""
    done = subprocess.run([sys.executable, "-c", lines + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
