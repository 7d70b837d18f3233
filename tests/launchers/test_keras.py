"""Keras 3: the path of a variable is its name, on torch and on JAX, so both have one plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.test_examples import run

WEIGHTS = {
    "in/kernel",
    "in/bias",
    "inner/fc/kernel",
    "inner/fc/bias",
    "inner/norm/gamma",
    "inner/norm/beta",
    "averages/gamma",
    "averages/beta",
    "averages/moving_mean",
    "averages/moving_variance",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("keras")
    return {
        backend: json.loads(run(folder, "-m", "tests.launchers.keras_models", backend))
        for backend in ("torch", "jax")
    }


def test_each_weight_is_there_once_by_its_path(found: dict[str, dict[str, Any]]) -> None:
    for one in found.values():
        assert len(one["filled"]) == len(WEIGHTS)
        assert set(one["filled"]) == set(one["agreed"]) == WEIGHTS


def test_both_backends_have_the_same_bits(found: dict[str, dict[str, Any]]) -> None:
    assert found["torch"]["hash"] == found["jax"]["hash"]


def test_verify_names_the_variable_that_differs(found: dict[str, dict[str, Any]]) -> None:
    for one in found.values():
        assert re.search(r"in/kernel: .* the first at \[2, 3\]", one["wrong"])


def test_a_model_within_a_torch_module_has_its_place_before_the_path(
    found: dict[str, dict[str, Any]],
) -> None:
    own = {f"left.{name}" for name in WEIGHTS}
    assert set(found["torch"]["within"]) == own | {"right.weight", "right.bias"}


def test_what_is_no_weight_is_named(found: dict[str, dict[str, Any]]) -> None:
    (state,) = found["torch"]["kept"]
    assert re.fullmatch(r"seed_generator.*/seed_generator_state", state)
    assert "'inner/fc/bias': scheme: no rule covers" in found["torch"]["uncovered"]
    assert " of Keras has no weights yet" in found["torch"]["unbuilt"]
    assert "a Functional of Keras, which is no tree of arrays" in found["jax"]["model"]
    assert "seed_generator_state': scheme: no rule covers" in found["jax"]["uncovered"]
