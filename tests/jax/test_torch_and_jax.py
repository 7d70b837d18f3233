"""One model in torch and in JAX: recordings with the same laws are one plan and one hash."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax
import numpy as np
from flax import nnx
from torch import nn

from tests.jax.own_values import by_name

I = jax.nn.initializers  # noqa: E741
# Of 64, torch's 1 / sqrt(n) and equinox's sqrt(1 / n) are the same double.
VOCABULARY, WIDTH, HIDDEN = 160, 48, 64
LAST = 0.02 / math.sqrt(8)


class Torch(nn.Module):
    """An embedding, a projection, a recurrent cell, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.cell = nn.LSTMCell(WIDTH, HIDDEN, bias=False)
        self.norm = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.trunc_normal_(self.project.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.project.bias)
        nn.init.normal_(self.head.weight, std=LAST)


class Equinox(eqx.Module):
    """The same model, in torch's axes, as equinox has them."""

    embed: eqx.nn.Embedding
    project: eqx.nn.Linear
    cell: eqx.nn.LSTMCell
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 4)
        rows = I.normal(0.02)(keys[0], (VOCABULARY, WIDTH))
        self.embed = eqx.nn.Embedding(weight=rows)
        self.project = _with(
            eqx.nn.Linear(WIDTH, WIDTH, key=keys[1]),
            I.truncated_normal(0.02)(keys[1], (WIDTH, WIDTH)),
            np.zeros(WIDTH, "float32"),
        )
        self.cell = eqx.nn.LSTMCell(WIDTH, HIDDEN, use_bias=False, key=keys[2])
        self.norm = eqx.nn.LayerNorm(HIDDEN)
        head = eqx.nn.Linear(HIDDEN, VOCABULARY, use_bias=False, key=keys[3])
        self.head = _with(head, I.normal(LAST)(keys[3], (VOCABULARY, HIDDEN)), None)


class Flax(nnx.Module):
    """A part of it in Flax's axes, in which a kernel is torch's weight transposed."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(VOCABULARY, WIDTH, embedding_init=I.normal(0.02), rngs=rngs)
        self.norm = nnx.LayerNorm(HIDDEN, rngs=rngs)
        self.head = nnx.Linear(
            HIDDEN, VOCABULARY, use_bias=False, kernel_init=I.normal(LAST), rngs=rngs
        )


def test_the_same_model_in_torch_and_equinox_is_one_plan_and_one_hash() -> None:
    theirs = ict.record(Torch)
    plan = theirs.plan(seed=7)
    ours = icj.record(lambda: Equinox(jax.random.key(0)), name=_dotted)
    assert ours.plan(seed=7).digest == plan.digest
    assert ours.plan(seed=7) == plan

    ict.init_(theirs.model, plan, device="cpu")
    first = {name: value.detach().numpy() for name, value in theirs.model.state_dict().items()}
    made = icj.init(ours.shapes, ours.plan(seed=7), "local", name=_dotted)
    second = {_dotted(name): np.asarray(value) for name, value in by_name(made).items()}
    assert len(first) == 8
    assert _hash(first) == _hash(second)


def test_flax_has_the_weights_of_torch_by_names_and_transposed_kernels() -> None:
    parts = {"kernel": "weight", "embedding": "weight", "scale": "weight"}

    def name(path: str) -> str:
        layer, _, leaf = path.rpartition("/")
        return f"{layer}.{parts.get(leaf, leaf)}"

    theirs = ict.record(Torch)
    plan = theirs.plan(seed=7)
    recording = icj.record(lambda: Flax(nnx.Rngs(0)), name=name)
    own = recording.plan(seed=7)
    assert set(own) == {"embed.weight", "norm.weight", "norm.bias", "head.weight"}
    assert all(own[one] == plan[one] for one in own if one != "head.weight")
    # Of the head the laws are the same, in other axes.
    head = plan["head.weight"]
    assert own["head.weight"] == replace(head, shape=head.shape[::-1])
    kernel = ic.permute({"weight": replace(head, stream="head.weight")}, (1, 0))
    mine = ic.Plan({**own.tensors, "head.weight": kernel}, seed=7)

    ict.init_(theirs.model, plan, device="cpu")
    whole = {one: value.detach().numpy() for one, value in theirs.model.state_dict().items()}
    made = by_name(icj.init(recording.shapes, mine, "local", name=name))
    turned = {
        name(path): np.asarray(value).T if path == "head/kernel" else np.asarray(value)
        for path, value in made.items()
    }
    assert _hash(turned) == _hash({one: whole[one] for one in turned})


def _with(layer: Any, weight: Any, bias: Any) -> Any:
    def arrays(one: Any) -> tuple[Any, ...]:
        return (one.weight,) if bias is None else (one.weight, one.bias)

    return eqx.tree_at(arrays, layer, (weight,) if bias is None else (weight, bias))


def _dotted(path: str) -> str:
    return path.replace("/", ".")


def _hash(arrays: Mapping[str, Any]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()
