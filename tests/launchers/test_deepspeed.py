"""DeepSpeed: ZeRO 1, 2 and 3 have the weights and the losses of one process without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.torch.launching import run_ranks

CASES = {
    2: [
        "zero.Init",
        "stage 1 before initialize",
        "stage 2 before initialize",
        *(f"stage {stage} by the {given}" for stage in (1, 2, 3) for given in ("engine", "module")),
    ],
    3: ["zero.Init"],
}


@pytest.mark.parametrize("world", CASES)
def test_every_stage_has_the_weights_and_losses_of_one_process(world: int, tmp_path: Path) -> None:
    outputs = run_ranks("tests.launchers.deepspeed_ranks", world, tmp_path / "rendezvous")
    hashes = set()
    for status, text in outputs:
        assert status == 0, text
        lines = [line.partition(" ") for line in text.splitlines()]
        results = [json.loads(rest) for word, _, rest in lines if word == "RESULT"]
        (alone,) = [json.loads(rest) for word, _, rest in lines if word == "ALONE"]
        assert [one["case"] for one in results] == CASES[world]
        for one in results:
            assert one["losses"] == pytest.approx(alone, rel=2e-5), one
            assert 1.0 <= one["bytes"] <= 1.05, one
        assert alone[1] < alone[0]
        assert ("REFUSED" in text) == (world == 2)
        hashes |= {one["hash"] for one in results}
    assert len(hashes) == 1
