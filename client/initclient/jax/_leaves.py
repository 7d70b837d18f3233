"""The leaves of a pytree, each named by its path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from initcore import PlanError, Violation
from jax.sharding import Sharding
from jax.tree_util import GetAttrKey, PyTreeDef, tree_flatten_with_path

SEPARATOR = "/"

Naming: TypeAlias = Callable[[str], str]
"""Maps a leaf's path, such as "params/Dense_0/kernel", to its name in the plan."""

# Attributes under which Flax's boxes (nnx.Variable, linen's Partitioned) hold their array.
_BOXED = ("value", "raw_value")


@dataclass(frozen=True, eq=False)
class Leaf:
    """One leaf of a tree.

    Attributes:
        name: its name in the plan.
        keys: the keys of its path, as text.
        shape: its global shape.
        dtype: its element type.
        sharding: its sharding; None means the default device.
    """

    name: str
    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: Any
    sharding: Sharding | None


def leaves(tree: Any, name: Naming | None = None) -> tuple[list[Leaf], PyTreeDef]:
    """The leaves in the tree's order, and the tree's structure.

    Raises:
        PlanError: for leaves without a shape, random keys, and leaves that share a name.
    """
    flat, structure = tree_flatten_with_path(tree)
    violations: list[Violation] = []
    found = []
    seen = set()
    for path, value in flat:
        keys = _keys(path)
        own = SEPARATOR.join(keys)
        called = own if name is None else name(own)
        wrong = _wrong(called, value)
        if wrong is None and called in seen:
            wrong = Violation(called, "name", "two leaves of the tree have this name")
        if wrong is not None:
            violations.append(wrong)
            continue
        seen.add(called)
        shape = tuple(int(size) for size in value.shape)
        found.append(Leaf(called, keys, shape, value.dtype, _sharding(value)))
    if violations:
        raise PlanError(violations)
    return found, structure


def _keys(path: Sequence[Any]) -> tuple[str, ...]:
    if len(path) > 1 and isinstance(path[-1], GetAttrKey) and path[-1].name in _BOXED:
        path = path[:-1]
    return tuple(_text(key) for key in path)


def _text(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _wrong(name: Any, value: Any) -> Violation | None:
    if not isinstance(name, str):
        raise TypeError(f"name= returned {name!r}; it must return the name as a string")
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        message = (
            f"this leaf is {value!r}, which has no shape and dtype; give jax.ShapeDtypeStruct "
            "(jax.eval_shape makes them) or arrays"
        )
        return Violation(name, "shape", message)
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        message = (
            f"is {value.dtype}, the state of a random generator, not a weight; leave it out of the "
            "tree, as nnx.state(model, nnx.Param) does"
        )
        return Violation(name, "dtype", message)
    sharding = getattr(value, "sharding", None)
    if sharding is not None and not isinstance(sharding, Sharding):
        message = f"is {sharding}, which has no devices; give NamedSharding(mesh, {sharding})"
        return Violation(name, "sharding", message)
    return None


def _sharding(value: Any) -> Sharding | None:
    sharding = getattr(value, "sharding", None)
    # An uncommitted array lies on the default device, and JAX may move it.
    placed = getattr(value, "committed", True)
    return sharding if placed else None
