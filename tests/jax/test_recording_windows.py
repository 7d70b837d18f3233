"""record: parts of arrays that are changed in place, arrays that are split, exponential draws."""

from __future__ import annotations

import math
import re
from typing import Any

import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]

KEY = jax.random.key(0)


def recorded(function: Any) -> icj.Recording:
    return icj.record(lambda: {"w": function(KEY)})


def small(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Draws so near to zero that arithmetic on them shows where it was done."""
    return jax.random.normal(jax.random.fold_in(KEY, seed), shape) * 1e-4


@pytest.mark.parametrize(
    "init",
    [
        lambda: small((6, 4)).at[2].add(1.0),
        lambda: small((6, 4)).at[2].subtract(jnp.arange(4.0)),
        lambda: (1 + small((6, 4))).at[1:3, 2].multiply(3.0),
        lambda: (1 + small((6, 4))).at[-1].multiply(0.0),
        lambda: small((6, 4)).at[0, 0].add(5.0),
        lambda: jnp.zeros((6, 4)).at[2].add(2 + small((4,))),
        lambda: jnp.arange(24.0).reshape(6, 4).at[3:5].add(small((2, 4))),
        lambda: jnp.full((6, 4), 3.0).at[:, 1].subtract(1 + small((6,))),
        lambda: jnp.full((6, 4), 3.0).at[:2].multiply(1 + small((2, 4))),
        lambda: small((6, 4)).at[1].add(1.0).at[1:3].add(2.0),
        lambda: jnp.split(jnp.arange(6.0)[:, None] + small((6, 4)), 3)[1],
        lambda: jnp.split(jnp.arange(4.0) + small((6, 4)), [1, 3], axis=1)[1],
        lambda: jnp.concatenate(
            [part * n for n, part in enumerate(jnp.split(1 + small((6, 4)), 3, axis=0))]
        ),
        lambda: jnp.array_split(1 + small((7,)), 3)[0],
        lambda: jnp.arange(6.0)[:, None] + small((6, 4)),
        lambda: (1 + small((6, 4))) * jnp.arange(4.0)[None, :],
        lambda: jnp.arange(6.0)[:, None] - small((6, 4)),
    ],
)
def test_arithmetic_is_where_the_model_does_it(init: Any) -> None:
    plan = icj.record(lambda: {"w": init()}).plan(seed=7)
    made = ic.fetch(plan, target="local")["w"]
    own = np.asarray(init())
    assert made.shape == own.shape
    assert np.array_equal(np.round(made), np.round(own))
    # Each draw is in one place, and constants are where the model has them.
    drawn = own != np.round(own)
    assert np.array_equal(made != np.round(made), drawn)
    assert np.unique((made - np.round(own))[drawn]).size > 0.7 * drawn.sum()


def test_a_row_of_noise_in_zeros_is_drawn_and_its_rows_are_zero() -> None:
    made = recorded(lambda key: jnp.zeros((3, 4)).at[1].add(jax.random.normal(key, (4,))))
    assert made.plan()["w"] == ic.normal((3, 4), zero_rows=(0, 2))


def test_a_part_of_a_draw_that_another_leaf_also_has_is_shared() -> None:
    def init() -> Any:
        first, second = jnp.split(jax.random.normal(KEY, (6, 4)), 2)
        return {"a": first, "b": second, "c": first}

    weights = ic.fetch(icj.record(init).plan(seed=7), target="local")
    assert np.array_equal(weights["a"], weights["c"])
    assert not np.array_equal(weights["a"], weights["b"])


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (
            lambda key: jax.random.normal(key, (6, 4)).at[2].add(jax.random.normal(key, (4,))),
            "JAX's scatter-add.*it combines draws",
        ),
        (
            lambda key: jnp.zeros((6, 4)).at[jnp.array([2, 2])].add(jax.random.normal(key, (2, 4))),
            "JAX's scatter-add.*it changes several parts",
        ),
        (
            lambda key: jnp.tile(jax.random.normal(key, (1, 4)), (6, 1)).at[2].multiply(2.0),
            "JAX's scatter-mul.*part of repeated draws",
        ),
        (
            lambda key: jax.nn.initializers.orthogonal()(key, (6, 6)).at[2].add(1.0),
            "JAX's scatter-add.*a part of orthogonal",
        ),
        (
            lambda key: jnp.split(jax.nn.initializers.orthogonal()(key, (6, 6)), 2)[0],
            "JAX's split.*a part of orthogonal",
        ),
        (lambda key: jax.random.normal(key, (6,)).at[2].max(0.0), "JAX's scatter-max"),
    ],
)
def test_what_is_not_understood_is_refused_with_operation_and_line(init: Any, reason: str) -> None:
    recording = recorded(init)
    with pytest.raises(ic.PlanError) as caught:
        recording.plan()
    message = str(caught.value)
    assert re.search(reason, message)
    assert "'w'" in message
    assert re.search(r"at \S*test_recording_windows\.py:\d+", message)


@pytest.mark.parametrize(
    ("init", "law"),
    [
        (lambda key: jax.random.exponential(key, (20_000,)), stats.expon()),
        (lambda key: 3 * jax.random.exponential(key, (20_000,)) + 1, stats.expon(1, 3)),
        (lambda key: jax.random.pareto(key, 2.0, (20_000,)), stats.pareto(2.0)),
        (lambda key: jax.random.weibull_min(key, 3.0, 2.0, (20_000,)), stats.weibull_min(2, 0, 3)),
        (lambda key: jax.random.rayleigh(key, 2.0, (20_000,)), stats.rayleigh(0, 2)),
        (lambda key: jax.random.gumbel(key, (20_000,)), stats.gumbel_r()),
        (lambda key: jax.random.lognormal(key, 0.5, (20_000,)), stats.lognorm(0.5)),
    ],
)
def test_draws_that_are_functions_of_one_draw_have_their_distribution(init: Any, law: Any) -> None:
    made = ic.fetch(recorded(init).plan(seed=7), target="local")["w"]
    assert np.isfinite(made).all()
    assert stats.kstest(made, law.cdf).pvalue > 1e-3
    assert stats.kstest(np.asarray(init(KEY)), law.cdf).pvalue > 1e-3


def test_the_largest_exponential_draw_is_finite_and_the_least_is_not_negative() -> None:
    largest, least = -math.log1p(-(1 - 2**-24)), -math.log1p(-(2**-25))
    plan = recorded(lambda key: jax.random.exponential(key, (1 << 18,))).plan(seed=7)
    found = ic.describe(plan).tensors[0]
    made = ic.fetch(plan, target="local")["w"]
    assert made.min() >= least
    assert made.max() <= np.float32(largest)
    assert found.scheme == "apply"


def test_torch_records_the_exponential_distribution_in_the_same_way() -> None:
    class Decay(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = torch.nn.Parameter(-torch.log1p(-torch.rand(20_000)))

    made = ic.fetch(ict.record(Decay).plan(seed=7), target="local")["rate"]
    assert stats.kstest(made, stats.expon().cdf).pvalue > 1e-3
