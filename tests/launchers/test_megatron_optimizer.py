"""Megatron-Core's wrappers and optimizers: after one step, the weights are those of one process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.torch.launching import run_ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What each rank found, by the number of ranks; the first process saves its weights."""
    folder = tmp_path_factory.mktemp("megatron")
    found: dict[int, list[dict[str, Any]]] = {}
    for world in (1, 2):
        ranks = run_ranks(
            "tests.launchers.megatron_optimizer_ranks",
            world,
            folder / f"rendezvous{world}",
            PLANS=str(folder),
            OMP_NUM_THREADS="1",
        )
        for status, text in ranks:
            assert status == 0, text
            assert world == 1 or "REFUSED" in text
            lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
            found.setdefault(world, []).extend(json.loads(line[7:]) for line in lines)
    return found


def test_the_weights_after_a_step_are_those_of_one_process(
    results: dict[int, list[dict[str, Any]]],
) -> None:
    assert len(results[1]) == 3
    assert len(results[2]) == 2 * 26
    for one in results[2]:
        # A stale master would undo what init_ wrote, a difference of the weights' own size.
        assert one["moved"] > 0.001, one
        bound = 0.01 if one["layout"]["half"] else 1e-5
        assert one["difference"] < bound, one
        if one["layout"]["tp"] == one["layout"]["ep"] == 1:
            # Copies: each rank has the gradients of one process.
            assert one["same"], one


def test_masters_are_the_weights_in_float32(results: dict[int, list[dict[str, Any]]]) -> None:
    for one in results[2]:
        assert (one["masters"] > 0) == one["layout"]["half"], one
