"""Lightning, Accelerate, transformers, PEFT and Ray: the weights and losses of one process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import digests
from tests.launchers.test_examples import EXAMPLES, run, torchrun


def ran(folder: Path, name: str, ranks: int) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """What each rank found, and the losses that each rank of the example printed."""
    program = str(EXAMPLES / f"{name}.py")
    text = torchrun(folder, ranks, "-m", "tests.launchers.example_ranks", program)
    found = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]
    assert {one["world"] for one in found} == {ranks}
    number = r"\d+\.\d+"
    losses: dict[str, list[float]] = {}
    # Lines of several ranks may stand in one.
    for rank, rest in re.findall(rf"rank (\d) of \d: loss(?:es)? (\[.*?\]|{number})", text):
        losses.setdefault(rank, []).extend(map(float, re.findall(number, rest)))
    assert len(losses) == ranks, text
    for one in found:
        digests.check(f"examples/launchers/{name}.py", one["built"])
    return found, list(losses.values())


def same_weights(found: list[dict[str, Any]]) -> None:
    """One hash, that of one process; each rank made its own part only."""
    assert len({one["hash"] for one in found} | {one["one process"] for one in found}) == 1, found
    for one in found:
        assert 1.0 <= one["bytes"] <= 1.05, one


@pytest.mark.parametrize(
    "name",
    ["accelerate_ddp", "accelerate_fsdp2", "lightning_fabric", "lightning_trainer", "peft_lora"],
)
def test_two_ranks_have_the_weights_and_losses_of_one_process(name: str, tmp_path: Path) -> None:
    found, losses = ran(tmp_path, name, 2)
    same_weights(found)
    # Accelerate has copies, in DDP.
    assert all((one["sharded"] > 0) == (name != "accelerate_ddp") for one in found)
    for one in losses:
        assert one == pytest.approx(found[0]["losses"], rel=2e-5)
        assert one[1] < one[0]
    assert all((one["kept"] > 0) == (name == "peft_lora") for one in found)


def test_what_is_filled_before_prepare_of_accelerate_stays_so(tmp_path: Path) -> None:
    torchrun(tmp_path, 2, "-m", "tests.launchers.accelerate_ranks", str(tmp_path))
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [len(results) for results in ranks] == [2, 2]
    found = [one for results in ranks for one in results]
    assert len({one["hash"] for one in found}) == 1
    for one in found:
        assert one["losses"] == pytest.approx(one["alone"], rel=2e-5)
        assert one["losses"][1] < one["losses"][0]


def test_the_trainer_with_tensor_parallelism_has_those_of_the_trainer_without(
    tmp_path: Path,
) -> None:
    alone, (reference,) = ran(tmp_path, "transformers_trainer", 1)
    found, losses = ran(tmp_path, "transformers_trainer", 2)
    same_weights([*alone, *found])
    assert all(one["sharded"] for one in found)
    for one in losses:
        assert one == pytest.approx(reference, rel=2e-5)
        assert one[1] < one[0]


def test_rays_workers_have_the_weights_and_losses_of_one_process(tmp_path: Path) -> None:
    run(tmp_path, "-m", "tests.launchers.ray_ranks", str(EXAMPLES / "ray_train.py"))
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    same_weights(found)
    for one in found:
        digests.check("examples/launchers/ray_train.py", one["built"])
        assert one["world"] == 2
        assert one["sharded"] == 4
        assert one["printed"] == pytest.approx(one["losses"], rel=2e-5)
        assert one["printed"][1] < one["printed"][0]
