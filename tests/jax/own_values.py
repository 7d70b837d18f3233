"""A plan's values against those of the model's own code: distributions, not draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import initclient.jax as icj
import jax
import numpy as np
from flax import nnx
from initclient.jax._leaves import leaves
from scipy import stats

# Of a KS test. Everything is seeded, so a test that passes goes on passing.
SIGNIFICANCE = 1e-3


def by_name(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by their names in a plan."""
    return {leaf.name: leaf.value for leaf in leaves(tree)[0]}


def distance_from_orthogonal(matrix: Any) -> float:
    """|K'K - I|, or |KK' - I| where there are fewer rows than columns; the largest element."""
    wide = matrix.astype("float64")
    product = wide.T @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.T
    return float(np.abs(product - np.eye(len(product))).max())


def assert_same_distributions(
    recording: icj.Recording, own: Callable[[], Any], *, exact: float = 1e-6
) -> int:
    """Compares leaf by leaf; returns how many leaves were drawn and not constant."""
    plan = recording.plan(seed=7)
    made = by_name(icj.init(recording.shapes, plan, "local"))
    theirs = by_name(own())
    assert made.keys() == theirs.keys()
    drawn = 0
    for name, array in theirs.items():
        ours, other = np.asarray(made[name]), np.asarray(array)
        assert ours.shape == other.shape, name
        assert ours.dtype == other.dtype, name
        text = recording.explain(name)
        if "drawn" not in text:
            assert np.allclose(ours, other, rtol=exact, atol=0), name
            continue
        drawn += 1
        zero = (other == 0).reshape(len(other), -1).all(axis=1)
        assert (zero == (ours == 0).reshape(len(ours), -1).all(axis=1)).all(), name
        first, second = ours[~zero].ravel(), other[~zero].ravel()
        p = stats.ks_2samp(first.astype("f8"), second.astype("f8"), method="asymp").pvalue
        assert p > SIGNIFICANCE, (name, p, text)
    return drawn


def own_arrays(model: Any) -> Any:
    """The arrays of a model of its own making, from another key."""

    def own(key: Any) -> Any:
        made = model(key)
        if isinstance(made, nnx.Module):
            made = nnx.state(made, nnx.Not(nnx.RngState))
        return eqx.filter(made, eqx.is_array)

    # Compilation takes longest.
    return jax.jit(own, compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(1))
