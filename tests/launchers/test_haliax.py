"""haliax: an array with named axes has the path of its module, and no key of its own."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import pytest

# haliax warns of equinox's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = {
    "embedding/weight": (16, 8),
    "up/stacked/weight": (3, 6, 8),
    "up/stacked/bias": (3, 6),
    "norm/weight": (8,),
    "norm/bias": (8,),
    "plain": (2, 2),
}


def make() -> Any:
    """A module of haliax's layers, with an array, a function and a number among its leaves."""
    import haliax as hax
    from haliax.nn import Embedding, LayerNorm, Linear, Stacked

    embed, hidden, vocab = hax.Axis("embed", 8), hax.Axis("hidden", 6), hax.Axis("vocab", 16)
    layers = hax.Axis("layers", 3)
    first, second = jax.random.split(jax.random.key(0))

    class Net(eqx.Module):
        embedding: Any
        up: Any
        norm: Any
        plain: Any
        activation: Any = jax.nn.gelu
        rate: Any = 0.1

    stacked = Stacked.init(layers, Linear)
    return Net(
        Embedding.init(vocab, embed, key=first),
        stacked(In=embed, Out=hidden, key=jax.random.split(second, 3)),
        LayerNorm.init(embed),
        jnp.ones((2, 2)),
    )


def test_a_recording_has_each_weight_once_by_its_path() -> None:
    recording = icj.record(make)
    plan = recording.plan(seed=7)
    assert {name: tensor.shape for name, tensor in plan.tensors.items()} == SHAPES
    assert plan["up/stacked/weight"].scheme == "trunc_normal"
    assert plan["norm/weight"].scheme == "ones"
    made = icj.init(recording.shapes, plan)
    assert [axis.name for axis in made.up.stacked.weight.axes] == ["layers", "hidden", "embed"]
    assert made.activation is jax.nn.gelu
    assert made.rate == 0.1
    assert icj.verify(made, plan).agreed == tuple(SHAPES)
    assert jnp.array_equal(made.embedding.weight.array, ic.fetch(plan)["embedding/weight"])


def test_verify_names_the_leaf_that_differs() -> None:
    model = make()
    plan = icj.plan(model, [icj.rule("*", ic.normal, std=0.02)], seed=7)
    made = icj.init(model, plan)
    flipped = made.norm.bias.array.at[3].set(1.0)
    wrong = eqx.tree_at(lambda net: net.norm.bias.array, made, flipped)
    with pytest.raises(ic.VerificationError, match=r"norm/bias.*the first at \[3\]"):
        icj.verify(wrong, plan)


def test_a_named_array_without_an_array_is_refused_by_name() -> None:
    import haliax as hax

    model = eqx.tree_at(lambda net: net.norm.bias, make(), hax.NamedArray(3.0, ()))
    with pytest.raises(ic.PlanError, match=r"norm/bias.*is 3\.0, which has no shape and dtype"):
        icj.plan(model, [icj.rule("*", ic.zeros)])
