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


# What JAX divides by: the standard deviation of a normal cut at two.
CUT = 0.87962566103423978


def cut(scale: float, fan: float, factor: float = 1.0) -> float:
    """The std of `variance_scaling(scale, ..., "truncated_normal")`, before the cut."""
    return factor * (math.sqrt(scale / fan) / CUT)


def width(scale: float, fan: float) -> float:
    """The bound of `variance_scaling(scale, ..., "uniform")`."""
    return math.sqrt(3 * (scale / fan))


# By the sizes of the layers in tests/jax/models.py: std of normals and cut normals, bound of
# uniforms, gain of orthogonal kernels. Not here: functions of draws, and leaves made of parts.
NUMBERS: dict[str, dict[str, float]] = {
    "attention": {
        **{f"attention/{one}/kernel": cut(1, 48) for one in ("query", "key", "value", "out")},
        "embed/embedding": 0.02,
        "head/kernel": cut(1, 48, 0.5),
    },
    "convolutions": {"first/kernel": cut(2, 9 * 24)},
    "recurrent": {
        **{f"cell/i{gate}/kernel": cut(1, 16) for gate in ("i", "f_", "g", "o")},
        **{f"cell/h{gate}/kernel": 1.0 for gate in "ifgo"},
        "lora/lora_a": width(2, 32),
    },
    "stacked": {"layers/kernel": width(1, (32 + 48) / 2)},
    "linen scan": {
        "params/Embed_0/embedding": math.sqrt(1 / 48),
        "params/layers/Dense_0/kernel": width(1, (48 + 64) / 2),
        "params/position": 0.02,
    },
    "linen experts": {"params/experts/kernel": cut(2, 48), "params/router/kernel": 0.006},
    "linen state": {"params/kernel": 1.0},
    "equinox block": {
        "embed/weight": 0.02,
        **{
            f"attention/{one}_proj/weight": 1 / math.sqrt(48)
            for one in ("query", "key", "value", "output")
        },
        **{
            f"mlp/layers/{i}/{part}": 1 / math.sqrt(fan)
            for i, fan in enumerate((48, 96, 96))
            for part in ("weight", "bias")
        },
    },
    "equinox recurrent": {
        "conv/weight": 1 / math.sqrt(3 * 9),
        # Equinox divides first here, and takes the root first in its other layers.
        "cell/weight_ih": math.sqrt(1 / 24),
        "cell/bias": math.sqrt(1 / 24),
    },
    "equinox stack": {"layers/weight": 1 / math.sqrt(32), "layers/bias": 1 / math.sqrt(32)},
    "haiku attention": {
        "embed/embeddings": 0.02,
        **{
            f"multi_head_attention/{one}/w": width(2 / 3, 48)
            for one in ("query", "key", "value", "linear")
        },
        "linear/w": 0.01,
    },
    "haiku convolutions": {
        "conv2_d/w": 1 / math.sqrt(9 * 12),
        "linear/w": 2.0,
        "lstm/linear/w": 1 / math.sqrt(32 + 24),
    },
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_numbers_of_stock_initializers_are_their_doubles(name: str) -> None:
    plan = icj.record(lambda: MODELS[name](jax.random.key(3))).plan()
    found = {}
    for leaf in NUMBERS[name]:
        tensor = plan[leaf]
        if tensor.scheme == "uniform":
            assert tensor.a == -tensor.b, leaf
            found[leaf] = tensor.b
        elif tensor.scheme == "orthogonal":
            found[leaf] = tensor.gain
        else:
            found[leaf] = tensor.std
            if tensor.scheme == "trunc_normal":
                assert (tensor.a, tensor.b) == (-2 * tensor.std, 2 * tensor.std), leaf
    assert found == NUMBERS[name]


def test_every_model_is_compared() -> None:
    assert DRAWN.keys() == NUMBERS.keys() == MODELS.keys()


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
