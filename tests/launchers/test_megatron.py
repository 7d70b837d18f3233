"""Megatron-Core: one plan, one hash and the losses of one process, in every layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.torch.launching import run_ranks

WORLDS = (1, 2, 4)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[tuple[int, str]]]:
    """The output of each rank, by the number of ranks; one process makes the plans."""
    folder = tmp_path_factory.mktemp("megatron")
    return {
        world: run_ranks(
            "tests.launchers.megatron_ranks",
            world,
            folder / f"rendezvous{world}",
            PLANS=str(folder),
            OMP_NUM_THREADS="1",
        )
        for world in WORLDS
    }


@pytest.fixture(scope="module")
def results(outputs: dict[int, list[tuple[int, str]]]) -> list[dict[str, Any]]:
    def read() -> Iterator[dict[str, Any]]:
        for ranks in outputs.values():
            for status, text in ranks:
                assert status == 0, text
                for line in text.splitlines():
                    if line.startswith("RESULT "):
                        yield json.loads(line.removeprefix("RESULT "))

    return list(read())


def test_every_layout_has_the_hash_of_one_process(results: list[dict[str, Any]]) -> None:
    for kind in ("dense", "padded", "tied", "experts"):
        hashes = {one["hash"] for one in results if one["kind"] == kind}
        assert len(hashes) == 1, [one for one in results if one["kind"] == kind]
    assert all(one["same"] for one in results)
    layouts = {(one["kind"], one["tp"], one["pp"], one["vpp"], one["ep"]) for one in results}
    assert {("dense", 4, 1, 1, 1), ("dense", 2, 2, 1, 1), ("dense", 1, 2, 2, 1)} <= layouts
    assert {("experts", 1, 2, 1, 2), ("experts", 2, 1, 1, 2), ("tied", 1, 2, 1, 1)} <= layouts


def test_every_layout_has_the_losses_of_one_process(results: list[dict[str, Any]]) -> None:
    for kind in ("dense", "tied", "experts"):
        trained = [one for one in results if one["kind"] == kind]
        alone = trained[0]
        assert (alone["tp"], alone["pp"], alone["ep"]) == (1, 1, 1)
        assert alone["losses"][1] < alone["losses"][0]
        for one in trained:
            steps = len(one["losses"])
            assert steps == (1 if kind == "experts" and one["tp"] > 1 else 2)
            assert one["losses"] == pytest.approx(alone["losses"][:steps], rel=2e-5), one


def test_each_rank_makes_its_own_part_only(results: list[dict[str, Any]]) -> None:
    for one in results:
        # Rows of padding are zeroed, not made.
        least = 0.98 if one["kind"] == "padded" else 1.0
        assert least <= one["bytes"] <= 1.05, one


def test_rows_past_the_vocabulary_are_zero(results: list[dict[str, Any]]) -> None:
    padded = [rows for one in results if one["kind"] == "padded" for rows in one["padding"]]
    assert padded
    assert set(padded) == {0.0}


def test_a_parameter_that_megatron_does_not_place_is_refused(
    outputs: dict[int, list[tuple[int, str]]], results: list[dict[str, Any]]
) -> None:
    assert all("REFUSED" in text for _, text in outputs[2])
