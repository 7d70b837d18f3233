"""Models of Flax, Equinox and Haiku: their plans have the distributions of their own code."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import haiku as hk
import initclient.jax as icj
import jax
import jax.numpy as jnp
import pytest

from tests.jax.models import MODELS
from tests.jax.own_values import assert_same_distributions, own_arrays

DRAWN = {
    "attention": 6,
    "convolutions": 2,
    "recurrent": 9,
    "stacked": 1,
    "linen scan": 4,
    "linen experts": 2,
    "linen state": 2,
    "equinox block": 11,
    "equinox recurrent": 4,
    "equinox stack": 2,
    "haiku attention": 6,
    "haiku convolutions": 3,
}
"""How many leaves of each model are drawn."""


@pytest.mark.parametrize("name", DRAWN)
def test_a_recorded_model_has_the_distributions_of_its_own_code(name: str) -> None:
    model = MODELS[name]
    recording = icj.record(lambda: model(jax.random.key(3)))
    assert recording.notes == ()
    assert assert_same_distributions(recording, lambda: own_arrays(model)) == DRAWN[name]


def test_every_model_is_compared() -> None:
    assert DRAWN.keys() == MODELS.keys()


def test_the_keys_of_the_code_decide_nothing() -> None:
    plans = [
        icj.record(lambda seed=seed: MODELS["linen scan"](jax.random.key(seed))).plan(seed=7)
        for seed in range(2)
    ]
    assert plans[0] == plans[1]


def test_numbers_of_equinox_and_haiku_are_the_doubles_that_they_hold() -> None:
    def haiku(x: Any) -> Any:
        x = hk.Linear(31, w_init=hk.initializers.RandomNormal(1 / 3), name="normal")(x)
        return hk.Linear(7, w_init=hk.initializers.RandomUniform(-1 / 7, 1 / 7), name="uniform")(x)

    key = jax.random.key(0)
    plan = icj.record(lambda: hk.transform(haiku).init(key, jnp.zeros((1, 63)))).plan()
    assert plan["normal/w"].std == 1 / 3
    assert (plan["uniform/w"].a, plan["uniform/w"].b) == (-1 / 7, 1 / 7)
    bound = 1 / math.sqrt(63)
    plan = icj.record(lambda: eqx.nn.Linear(63, 31, key=key)).plan()
    assert [(one.a, one.b) for one in plan.tensors.values()] == [(-bound, bound)] * 2
