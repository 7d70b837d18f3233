"""Flax models by plan: the distributions are Flax's own, in linen and in nnx, and models run."""

from __future__ import annotations

from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from initcore import layout
from scipy import stats

# Of a KS test. Everything is seeded, so a test that passes goes on passing.
SIGNIFICANCE = 1e-3

TOKENS = jnp.zeros((1, 6), dtype="int32")
IMAGE = jnp.zeros((1, 8, 8, 12))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, tokens: Any, image: Any) -> Any:
        x = linen.Embed(160, 48)(tokens)
        x = linen.LayerNorm()(x)
        x = linen.MultiHeadDotProductAttention(num_heads=4)(x, x)
        x = linen.RMSNorm()(linen.Dense(96)(x))
        y = linen.BatchNorm(use_running_average=True)(linen.Conv(24, (3, 3))(image))
        y = linen.GroupNorm(4)(linen.ConvTranspose(16, (2, 2))(y))
        z = linen.DenseGeneral(40, axis=(1, 2))(x)
        return x.sum() + y.sum() + z.sum()


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(160, 48, rngs=rngs)
        self.norm = nnx.LayerNorm(48, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 48, decode=False, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(48, 96, rngs=rngs), nnx.Linear(96, 48, rngs=rngs)])
        self.conv = nnx.Conv(12, 24, (3, 3), rngs=rngs)
        self.batch_norm = nnx.BatchNorm(24, use_running_average=True, rngs=rngs)

    def __call__(self, tokens: Any, image: Any) -> Any:
        x = self.attention(self.norm(self.embed(tokens)))
        for layer in self.layers:
            x = layer(x)
        return x.sum() + self.batch_norm(self.conv(image)).sum()


def assert_same_distributions(ours: Any, theirs: Any) -> int:
    """Compares leaf by leaf; returns how many were drawn and not constant."""
    drawn = 0
    paths = jax.tree_util.tree_leaves_with_path(theirs)
    for (path, own), made in zip(paths, jax.tree.leaves(ours), strict=True):
        first, second = np.asarray(made).ravel(), np.asarray(own).ravel()
        assert made.shape == own.shape
        if (second == second[0]).all():
            assert np.array_equal(first, second), path
            continue
        drawn += 1
        p = stats.ks_2samp(first, second, method="asymp").pvalue
        assert p > SIGNIFICANCE, (jax.tree_util.keystr(path), p)
    return drawn


def test_a_linen_model_has_flax_own_distributions_and_runs() -> None:
    model = Linen()
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS, IMAGE)
    plan = icj.plan(shapes, seed=7)
    made = icj.init(shapes, plan, "local")
    assert jnp.isfinite(jax.jit(model.apply)(made, TOKENS, IMAGE))
    own = jax.jit(model.init)(jax.random.key(1), TOKENS, IMAGE)
    assert assert_same_distributions(made, own) == 9


def test_an_nnx_model_has_flax_own_distributions_and_runs() -> None:
    # As the page does it: nothing is allocated before the plan's values are there.
    abstract = nnx.eval_shape(lambda: Nnx(nnx.Rngs(0)))
    graph, state = nnx.split(abstract)
    made = icj.init(state, icj.plan(state, seed=7), "local")
    model = nnx.merge(graph, made)
    assert jnp.isfinite(nnx.jit(Nnx.__call__)(model, TOKENS, IMAGE))
    own = nnx.state(nnx.jit(lambda: Nnx(nnx.Rngs(1)))())
    assert assert_same_distributions(made, own) == 8


@pytest.mark.parametrize(
    ("init", "name", "shape"),
    [
        (linen.linear.default_kernel_init, "kernel", (300, 200)),
        (linen.linear.default_embed_init, "embedding", (300, 200)),
    ],
)
def test_the_standard_deviation_is_the_one_that_flax_computes(
    init: Any, name: str, shape: tuple[int, int]
) -> None:
    tree = {name: jax.ShapeDtypeStruct(shape, "float32")}
    (entry,) = layout(icj.plan(tree)).entries
    own = np.asarray(init(jax.random.key(0), shape))
    spread = own.std() / (0.87962566103423978 if name == "kernel" else 1.0)
    assert entry.tensor.parameters.std == pytest.approx(spread, rel=0.02)


def test_a_boxed_parameter_has_the_name_of_a_plain_one() -> None:
    boxed = linen.Dense(
        4, kernel_init=linen.with_partitioning(linen.initializers.lecun_normal(), (None, "model"))
    )
    plans = [
        icj.plan(jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 3))))
        for layer in (boxed, linen.Dense(4))
    ]
    assert plans[0] == plans[1]
    shapes = jax.eval_shape(boxed.init, jax.random.key(0), jnp.zeros((1, 3)))
    made = icj.init(shapes, plans[0], "local")
    assert made["params"]["kernel"].names == (None, "model")


def test_heads_are_no_inputs() -> None:
    tree = {
        name: {"kernel": jax.ShapeDtypeStruct((48, 4, 12), "float32")}
        for name in ("query", "key", "value")
    } | {"out": {"kernel": jax.ShapeDtypeStruct((4, 12, 48), "float32")}}
    found = {
        tensor.name: tensor.std for tensor in ic.describe(icj.plan(tree), target="local").tensors
    }
    one = icj.plan({"kernel": jax.ShapeDtypeStruct((48, 48), "float32")})
    (dense,) = ic.describe(one, target="local").tensors
    assert set(found.values()) == {dense.std}
