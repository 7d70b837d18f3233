"""record: leaves that no plan has are refused, with the operation of JAX and the line of code."""

from __future__ import annotations

import random
import re
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from initclient.jax._record import interpreter

I = jax.nn.initializers  # noqa: E741
KEY = jax.random.key(0)


def recorded(function: Any) -> icj.Recording:
    return icj.record(lambda: {"w": function(KEY)})


def refusal(function: Any) -> str:
    recording = recorded(function)
    with pytest.raises(ic.PlanError) as caught:
        recording.plan()
    # A rule is the way out.
    recording.plan(rules=[icj.rule("w", ic.zeros)])
    assert recording.refused["w"] in str(caught.value)
    assert __file__.rpartition("/")[2] in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (lambda key: jax.random.randint(key, (4,), 0, 9), "JAX's rem"),
        (lambda key: jax.random.gamma(key, 2.0, (4,)), "no plan has its distribution"),
        (lambda key: jnp.cumsum(jax.random.normal(key, (4,))), "JAX's cumsum"),
        (lambda key: jnp.sort(jax.random.normal(key, (4,))), "JAX's sort"),
        (lambda key: jnp.sin(jax.random.normal(key, (4,))), "JAX's sin"),
        (lambda key: jax.random.normal(key, (4, 4)) @ jnp.ones((4, 4)), "JAX's dot_general"),
        (lambda key: jax.random.normal(key, (4,)) + jax.random.normal(key, (4,)), "combines"),
        (lambda key: jax.random.normal(key, (4,)) * jax.random.normal(key, (4,)), "combines"),
        (lambda key: jnp.linalg.qr(jax.random.normal(key, (4, 4)))[0], "factor"),
        (lambda key: jnp.linalg.qr(jax.random.uniform(key, (4, 4)))[0], "decomposes"),
        (lambda key: jax.random.permutation(key, 8), "JAX's"),
        (lambda key: jax.random.bits(key, (4,)), "bits"),
        (lambda key: jax.random.normal(key, (4,)).astype("int32"), "converted to int32"),
        (lambda key: jax.random.key_data(key).astype("float32"), "random key"),
        (
            lambda key: jax.lax.cond(
                jax.random.uniform(key) > 0.5, lambda: jnp.ones(3), lambda: jnp.zeros(3)
            ),
            "draws or keys decide which branch",
        ),
        (lambda key: jnp.tile(jax.random.normal(key, (4,)), 3) * jnp.arange(12.0), "repeat|sever"),
        (lambda key: jnp.ones((3,)) / jax.random.normal(key, (3,)), "reciprocal"),
        (
            lambda key: (
                jax.random.normal(key, (4,)).at[jnp.array([1, 2, 9])].get(mode="fill", fill_value=0)
            ),
            "JAX's gather.*elements from outside the array",
        ),
        (lambda key: jax.random.normal(key, (4,)) * jnp.inf, "operand is not finite"),
        (lambda key: jax.random.normal(key, (4,)) / 0.0, "divides by zero"),
        (lambda key: (-2.0) ** jax.random.normal(key, (4,)), "no plan computes this function"),
        (
            lambda key: jax.lax.clamp(jax.random.normal(key, (4,)), jnp.ones(4), 2 * jnp.ones(4)),
            "draws are the bounds of a clamp",
        ),
        (
            lambda key: jax.vmap(jax.random.normal)(jax.random.split(key)[jnp.array([0, 0, 1])]),
            "some of its random keys are equal",
        ),
        (
            lambda key: jnp.concatenate(
                [jnp.tile(jax.random.normal(key, (1, 4)), (3, 1)), jnp.ones((3, 4))]
            ),
            "repeated draws|one draw in several places",
        ),
        (lambda key: _signed(key, key, lambda signs: signs[:, None]), "combines"),
        (lambda key: _signed(*jax.random.split(key), lambda signs: signs), "combines"),
        (lambda key: jax.lax.reduce_precision(jax.random.normal(key, (4,)), 8, 7), "to 7 bits"),
        (
            lambda key: jax.lax.reduce_precision(jax.random.normal(key, (4,)), 5, 23),
            "to exponents of 5 bits",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_operation_and_line(init: Any, reason: str) -> None:
    assert re.search(reason, refusal(init))


def _signed(one: Any, two: Any, along: Any) -> Any:
    """Q of one key, times the signs of the diagonal of R of another key, along some axis."""
    q, _ = jnp.linalg.qr(jax.random.normal(one, (4, 4)))
    _, r = jnp.linalg.qr(jax.random.normal(two, (4, 4)))
    return q * along(jnp.sign(jnp.diag(r)))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (jnp.array([1.0, jnp.inf, 2.0]), "not all finite"),
        (jnp.full(3, jnp.nan), "no scheme has constant"),
        (jnp.full(3, 1j), "complex numbers"),
    ],
)
def test_computed_values_that_no_plan_holds_are_refused(values: Any, reason: str) -> None:
    assert reason in recorded(lambda _: values).refused["w"]


def test_a_loop_of_too_many_steps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(key: Any) -> Any:
        key = jax.lax.fori_loop(0, 100, lambda i, key: jax.random.fold_in(key, i), key)
        return jax.random.normal(key, (4,))

    assert recorded(init).plan().tensors["w"] == ic.normal((4,))
    monkeypatch.setattr(interpreter, "_MOST_STEPS", 50)
    assert "it takes more than 50 operations" in refusal(init)


def test_numbers_of_global_generators_are_in_the_notes() -> None:
    def init() -> Any:
        return {"a": jnp.full(3, np.random.rand()), "b": jnp.full(3, random.random())}

    recording = icj.record(init)
    assert [note.partition(",")[0] for note in recording.notes] == [
        "the code took numbers from numpy.random",
        "the code took numbers from Python's random",
    ]
    assert recording.refused.keys() == {"a", "b"}


def test_numbers_from_elsewhere_are_refused() -> None:
    recording = icj.record(lambda: {"w": jnp.asarray(np.random.default_rng().normal(size=4))})
    with pytest.raises(ic.PlanError, match="another run of the code gives it other values"):
        recording.plan()


def test_a_shape_that_does_not_repeat_is_refused() -> None:
    sizes = iter((4, 8))
    recording = icj.record(lambda: {"w": jax.random.normal(KEY, (next(sizes),))})
    with pytest.raises(ic.PlanError, match="another run of the code gives it other values"):
        recording.plan()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_draws_that_were_rounded_on_the_way_are_refused(dtype: str) -> None:
    text = refusal(lambda key: I.normal(0.1)(key, (8,), dtype).astype("float32"))
    assert f"rounded to {dtype} before they became float32" in text
    kept = recorded(lambda key: I.normal(0.1)(key, (8,)).astype(dtype))
    assert kept.plan().tensors["w"].std == 0.1
