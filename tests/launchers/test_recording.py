"""Megatron-Core's models, recorded: the bits of the plain ones, and of the recipe `megatron`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def output() -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.launchers.megatron_recorded"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rows(output: str) -> dict[str, dict[str, Any]]:
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    found = [json.loads(line.removeprefix("RESULT ")) for line in lines]
    return {row["name"]: row for row in found}


def test_the_recorded_operations_give_the_bits_of_the_plain_models(
    rows: dict[str, dict[str, Any]],
) -> None:
    assert len(rows) == 6
    for name, row in rows.items():
        assert row["tensors"] > row["random"] > 5, name
        assert not row["wrong"], name
        assert not row["still"], name


def test_a_recording_has_the_values_of_the_recipe_to_the_bit(
    rows: dict[str, dict[str, Any]],
) -> None:
    for name in ("gpt", "gpt, RMSNorm and SwiGLU", "gpt, experts"):
        assert rows[name]["other"] == [], name
    # An option that the recipe does not know.
    embeddings = ["embedding.word_embeddings.weight", "embedding.position_embeddings.weight"]
    assert set(embeddings) <= set(rows["gpt, scaled embeddings"]["other"])
    assert "recipe megatron: is not for BertModel" in rows["bert"]["refused"]


def test_a_layer_at_two_places_of_its_model_has_both_names(
    rows: dict[str, dict[str, Any]],
) -> None:
    """T5 keeps its output layer in the head, and at the top again; so its positions."""
    assert rows["t5"]["tied"] == [
        ["embedding.position_embeddings.weight", "position_embeddings.weight"],
        ["lm_head.output_layer.weight", "output_layer.weight"],
    ]
