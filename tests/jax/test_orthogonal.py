"""Orthogonal kernels of Flax are orthogonal in Flax's axes, with Flax's scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from tests.jax.own_values import by_name, distance_from_orthogonal

ORTHOGONAL = jax.nn.initializers.orthogonal(2.0)


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return linen.Dense(32, kernel_init=ORTHOGONAL)(x), None


class Stack(linen.Module):
    """Layers under nn.scan."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        scan = linen.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            in_axes=linen.broadcast,
        )
        return scan(name="layers")(x, None)[0]


def weights(model: Any) -> Any:
    return nnx.state(model, nnx.Param)


KERNELS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "Dense": (
        lambda key: weights(nnx.Linear(144, 32, kernel_init=ORTHOGONAL, rngs=nnx.Rngs(key))),
        (144, 32),
    ),
    "wide Dense": (
        lambda key: weights(nnx.Linear(32, 144, kernel_init=ORTHOGONAL, rngs=nnx.Rngs(key))),
        (32, 144),
    ),
    "Conv": (
        lambda key: weights(nnx.Conv(16, 32, (3, 3), kernel_init=ORTHOGONAL, rngs=nnx.Rngs(key))),
        (3, 3, 16, 32),
    ),
    "scanned stack": (lambda key: Stack().init(key, jnp.zeros((1, 32))), (3, 32, 32)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_orthogonal_in_the_axes_of_flax_with_its_scale(name: str) -> None:
    init, shape = KERNELS[name]
    recording = icj.record(lambda: init(jax.random.key(0)))
    made = by_name(icj.init(recording.shapes, recording.plan(seed=7), "local"))
    own = by_name(init(jax.random.key(1)))
    (path,) = [one for one in made if one.endswith("kernel")]
    assert made[path].shape == shape
    ours, theirs = (np.asarray(tree[path]).astype("f8") for tree in (made, own))
    assert not np.array_equal(ours, theirs)
    assert ours.std() == pytest.approx(theirs.std(), rel=1e-3)
    length = [np.sqrt((kernel**2).sum()) for kernel in (ours, theirs)]
    assert length[0] == pytest.approx(length[1], rel=1e-6)
    stacked = shape if name == "scanned stack" else (1, *shape)
    for kernel in ours.reshape(stacked):
        assert distance_from_orthogonal(kernel.reshape(-1, shape[-1]) / 2) < 1e-6
