"""Uniform draws of each element type: how often JAX draws a bound, and how near it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest

KEY = jax.random.key(3)
DRAWS = 50_000
STEPS = {"bfloat16": 7, "float16": 10, "float32": 23}


@pytest.mark.parametrize("dtype", STEPS)
def test_jax_draws_in_these_steps_and_the_note_says_so(dtype: str) -> None:
    found = np.asarray(jax.random.uniform(KEY, (DRAWS,), dtype).astype("float32"))
    steps = found.astype("float64") * 2.0 ** STEPS[dtype]
    assert (steps == steps.round()).all()
    assert not (steps / 2 == (steps / 2).round()).all()

    recording = icj.record(lambda: {"w": jnp.log(jax.random.uniform(KEY, (64,), dtype))})
    often = {"bfloat16": "128", "float16": "1,024", "float32": "2^23"}[dtype]
    (note,) = recording.notes
    assert f"of which JAX draws 0 once in {often} numbers" in note


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "function",
    [
        lambda u: -jnp.log(1 - u),
        lambda u: -jnp.log1p(-u),
        lambda u: 1 / (1 - u),
        lambda u: -jnp.log(u),
    ],
)
def test_functions_of_draws_of_16_bits_reach_as_far_as_jax_s(
    dtype: str, function: Callable[[Any], Any]
) -> None:
    def make(count: int) -> Any:
        return function(jax.random.uniform(KEY, (count,), dtype))

    recording = icj.record(lambda: {"w": make(DRAWS)})
    values = ic.fetch(recording.plan(seed=5), target="local")["w"]
    made = np.asarray(make(DRAWS).astype("float32"))
    assert float(values.max()) == made[np.isfinite(made)].max()
