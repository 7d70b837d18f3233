"""Models of four libraries whose initialization is recorded, with what makes each of them hard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
from flax import linen, nnx

I = jax.nn.initializers  # noqa: E741
TOKENS = jnp.zeros((1, 6), dtype="int32")
IMAGE = jnp.zeros((1, 8, 8, 12))
SEQUENCE = jnp.zeros((1, 6, 48))


class Attention(nnx.Module):
    """nnx: attention, an embedding whose padding row is zero, a lambda around an initializer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        padded = lambda *a, **k: I.normal(0.02)(*a, **k).at[0].set(0.0)  # noqa: E731
        self.embed = nnx.Embed(160, 48, embedding_init=padded, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 48, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(48, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(
            48,
            160,
            use_bias=False,
            rngs=rngs,
            kernel_init=lambda *a, **k: 0.5 * I.lecun_normal()(*a, **k),
        )


class Convolutions(nnx.Module):
    """nnx: convolutions without biases, orthogonal kernels, fan_out, running statistics."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(
            12,
            24,
            (3, 3),
            use_bias=False,
            rngs=rngs,
            kernel_init=I.variance_scaling(2.0, "fan_out", "truncated_normal"),
        )
        self.norm = nnx.BatchNorm(24, rngs=rngs)
        self.second = nnx.Conv(24, 32, (3, 3), kernel_init=I.orthogonal(2.0), rngs=rngs)


class Recurrent(nnx.Module):
    """nnx: an LSTM, whose hidden kernels are orthogonal, and low-rank adapters."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.cell = nnx.LSTMCell(16, 24, rngs=rngs)
        self.lora = nnx.LoRA(32, 4, 48, rngs=rngs)


class Stacked(nnx.Module):
    """nnx: layers under nnx.vmap, each with keys of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def layers(rngs: nnx.Rngs) -> nnx.Linear:
            return nnx.Linear(32, 48, kernel_init=I.glorot_uniform(), rngs=rngs)

        self.layers = layers(rngs)


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any) -> Any:
        h = linen.Dense(64, kernel_init=I.xavier_uniform())(linen.LayerNorm()(x))
        scaled = lambda *a: I.normal(0.02)(*a) / 8.0**0.5  # noqa: E731
        return x + linen.Dense(48, name="out", kernel_init=scaled)(h), None


class LinenScan(linen.Module):
    """linen: layers under nn.scan, and a parameter of the model's own."""

    @linen.compact
    def __call__(self, tokens: Any) -> Any:
        x = linen.Embed(160, 48)(tokens)
        scan = linen.scan(
            LinenBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=4,
            in_axes=linen.broadcast,
        )
        x, _ = scan(name="layers")(x, None)
        return x + self.param("position", I.truncated_normal(0.02), (6, 48))


class LinenExperts(linen.Module):
    """linen: a mixture of experts under nn.vmap, and a router."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        gates = linen.Dense(4, kernel_init=I.normal(0.006), use_bias=False, name="router")(x)
        experts = linen.vmap(
            linen.Dense,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=4,
        )(96, kernel_init=I.he_normal(), name="experts")(x)
        return jnp.einsum("ebsh,bse->bsh", experts, gates)


class LinenState(linen.Module):
    """linen: a state space layer, whose parameters are functions of ranges and of draws."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        def rates(key: Any, shape: Any) -> Any:
            dt = jnp.exp(jax.random.uniform(key, shape) * 3.0 - 5.0)
            return dt + jnp.log(-jnp.expm1(-dt))

        a = self.param("A_log", lambda key: jnp.log(jnp.arange(1.0, 17.0) * jnp.ones((48, 1))))
        dt = self.param("dt_bias", rates, (4096,))
        kernel = self.param("kernel", I.orthogonal(column_axis=0), (32, 48))
        return x.sum() + a.sum() + dt.sum() + kernel.sum()


class EquinoxBlock(eqx.Module):
    """equinox: attention, a padded embedding, and functions and numbers among the leaves."""

    embed: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 3)
        rows = jax.random.normal(keys[0], (160, 48)) * 0.02
        self.embed = eqx.nn.Embedding(weight=rows.at[3].set(0.0))
        self.attention = eqx.nn.MultiheadAttention(4, 48, dropout_p=0.1, key=keys[1])
        self.norm = eqx.nn.LayerNorm(48)
        self.mlp = eqx.nn.MLP(48, 48, 96, 2, activation=jax.nn.gelu, key=keys[2])


class EquinoxRecurrent(eqx.Module):
    """equinox: a convolution without a bias, and an LSTM with orthogonal gates."""

    conv: eqx.nn.Conv2d
    cell: eqx.nn.LSTMCell

    def __init__(self, key: Any) -> None:
        first, second, third = jax.random.split(key, 3)
        self.conv = eqx.nn.Conv2d(3, 32, 3, use_bias=False, key=first)
        cell = eqx.nn.LSTMCell(24, 24, key=second)
        gates = jax.vmap(lambda one: I.orthogonal()(one, (24, 24)))(jax.random.split(third, 4))
        self.cell = eqx.tree_at(lambda one: one.weight_hh, cell, gates.reshape(96, 24))


class EquinoxStack(eqx.Module):
    """equinox: layers under filter_vmap, as its page on scan over layers makes them."""

    layers: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 3)
        self.layers = eqx.filter_vmap(lambda one: eqx.nn.Linear(32, 48, key=one))(keys)


def haiku_attention(tokens: Any) -> Any:
    """haiku: attention, an embedding, and initializers that stand in one another."""
    x = hk.Embed(160, 48, w_init=hk.initializers.RandomNormal(0.02))(tokens)
    attention = hk.MultiHeadAttention(
        4, 12, w_init=hk.initializers.VarianceScaling(2.0 / 3.0, "fan_avg", "uniform")
    )
    x = x + attention(x, x, x)
    x = hk.LayerNorm(-1, create_scale=True, create_offset=True)(x)
    scale = hk.get_parameter("scale", [48], init=lambda *a: 0.1 * jnp.ones(*a))
    head = hk.Linear(160, w_init=lambda *a: 0.5 * hk.initializers.TruncatedNormal(0.02)(*a))
    return head(x * scale)


def haiku_convolutions(image: Any) -> Any:
    """haiku: convolutions without biases, running statistics, orthogonal kernels, an LSTM."""
    x = hk.Conv2D(32, 3, with_bias=False)(image)
    x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
    x = hk.Linear(32, w_init=hk.initializers.Orthogonal(2.0))(x)
    core = hk.LSTM(24)
    return core(x[:, 0, 0], core.initial_state(len(image)))[0]


def of_linen(model: Any, *inputs: Any) -> Callable[[Any], Any]:
    return lambda key: model.init(key, *inputs)


def of_nnx(kind: Any) -> Callable[[Any], Any]:
    return lambda key: kind(nnx.Rngs(key))


def of_haiku(function: Any, *inputs: Any) -> Callable[[Any], Any]:
    # The parameters, without the state that the first forward pass leaves.
    return lambda key: hk.transform_with_state(function).init(key, *inputs)[0]


MODELS: dict[str, Callable[[Any], Any]] = {
    "attention": of_nnx(Attention),
    "convolutions": of_nnx(Convolutions),
    "recurrent": of_nnx(Recurrent),
    "stacked": of_nnx(Stacked),
    "linen scan": of_linen(LinenScan(), TOKENS),
    "linen experts": of_linen(LinenExperts(), SEQUENCE),
    "linen state": of_linen(LinenState(), SEQUENCE),
    "equinox block": EquinoxBlock,
    "equinox recurrent": EquinoxRecurrent,
    "equinox stack": EquinoxStack,
    "haiku attention": of_haiku(haiku_attention, TOKENS),
    "haiku convolutions": of_haiku(haiku_convolutions, IMAGE),
}
"""From a random key to a model or its parameters, by name."""
