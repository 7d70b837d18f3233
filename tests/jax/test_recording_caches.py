"""record: caches of the code, which keep a value of one trace for the next one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@functools.lru_cache
def table() -> jax.Array:
    return jnp.sin(jnp.arange(4.0))


@functools.lru_cache
def key() -> jax.Array:
    return jax.random.key(3)


@pytest.fixture(autouse=True)
def empty_caches() -> Iterator[None]:
    yield
    table.cache_clear()
    key.cache_clear()


def of_table() -> dict[str, jax.Array]:
    return {"t": table() * 2, "w": jax.random.normal(jax.random.key(0), (3, 3))}


def within_jit() -> dict[str, jax.Array]:
    return {"t": jax.jit(lambda: table() * 2)()}


def as_it_is() -> dict[str, jax.Array]:
    return {"t": table()}


def of_key() -> dict[str, jax.Array]:
    return {"t": jax.random.normal(key(), (4,))}


def cleared() -> dict[str, jax.Array]:
    table.cache_clear()
    key.cache_clear()
    return of_table() | {"k": jax.random.normal(key(), (4,))}


@pytest.mark.parametrize("init", [of_table, within_jit, as_it_is, of_key])
def test_a_cache_ends_the_recording_with_the_line_and_the_way_out(init: Callable[[], Any]) -> None:
    for _ in range(2):
        with pytest.raises(ic.PlanError) as caught:
            icj.record(init)
        message = str(caught.value)
        assert "the code keeps a value of an earlier trace, at " in message
        assert f"{Path(__file__).name}:" in message
        assert "call that code once before you record" in message


def test_clearing_the_cache_and_calling_the_code_before_recording_gives_the_plan() -> None:
    with pytest.raises(ic.PlanError, match="Clear that cache"):
        icj.record(of_table)
    table.cache_clear()
    expected = np.asarray(table() * 2)
    plan = icj.record(of_table).plan()
    assert np.array_equal(ic.fetch(plan, target="local")["t"], expected)
    assert plan["w"].scheme == "normal"
    assert np.array_equal(of_table()["t"], expected)


def test_clearing_the_cache_within_the_recorded_code_gives_the_plan() -> None:
    plan = icj.record(cleared).plan()
    assert (plan["t"].scheme, plan["k"].scheme) == ("literal", "normal")
    table.cache_clear()
    assert np.array_equal(table(), jnp.sin(jnp.arange(4.0)))


def test_a_value_that_the_user_kept_of_a_trace_of_their_own_ends_it_too() -> None:
    kept: list[jax.Array] = []
    jax.make_jaxpr(lambda: kept.append(jnp.arange(3.0)) or jnp.ones(3))()
    with pytest.raises(ic.PlanError, match=r"keeps a value of an earlier trace, at .*caches\.py:"):
        icj.record(lambda: {"t": jax.jit(jnp.sin)(kept[0])})
