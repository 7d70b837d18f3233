"""The leaves of a pytree, each named by its path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from initcore import PlanError, Violation
from jax.tree_util import GetAttrKey, PyTreeDef, tree_flatten_with_path, tree_unflatten

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
        sharding: its sharding, or a PartitionSpec; None means the default device.
        value: the leaf itself: an array, or a description of one.
    """

    name: str
    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: Any
    sharding: Any
    value: Any = None


def leaves(tree: Any, name: Naming | None = None) -> tuple[list[Leaf], PyTreeDef]:
    """The arrays among the leaves, in the tree's order, and the tree's structure.

    haliax's NamedArray adds no key to the path of its array. A variable of Keras is called by its
    own path, wherever it is in the tree, and stands for its array. Functions are
    no weights, nor are the plain numbers and strings that are attributes of a module, as Equinox's
    modules have them: these leaves are left out.

    Raises:
        PlanError: for leaves without a shape, random keys, and leaves that share a name.
    """
    flat, structure = tree_flatten_with_path(tree)
    named = _named_arrays(tree)
    violations: list[Violation] = []
    found = []
    seen = set()
    for path, value in flat:
        if is_setting(path, value):
            continue
        keys = _keys(path[:-1] if path[:-1] in named else path)
        if _is_keras_variable(value):
            keys, value = tuple(value.path.split(SEPARATOR)), value.value
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
        found.append(Leaf(called, keys, shape, value.dtype, _sharding(value), value))
    if violations:
        raise PlanError(violations)
    return found, structure


def filled(tree: Any, arrays: Iterable[Any]) -> Any:
    """The tree with other arrays, in the order of `leaves`; what is no array stays as it is."""
    flat, structure = tree_flatten_with_path(tree)
    rest = iter(arrays)
    made = [value if is_setting(path, value) else next(rest) for path, value in flat]
    return tree_unflatten(structure, made)


def is_setting(path: Sequence[Any], value: Any) -> bool:
    """Whether a leaf is no array but a part of a module: a function, or a number of its own."""
    if hasattr(value, "shape") or not path:
        return False
    last = path[-1]
    is_attribute = isinstance(last, GetAttrKey) and last.name not in _BOXED
    return callable(value) or (is_attribute and isinstance(value, int | float | complex | str))


def _named_arrays(tree: Any) -> set[tuple[Any, ...]]:
    """The paths of haliax's arrays with named axes, each of which is a node with one array."""
    if "haliax" not in sys.modules:
        return set()
    found, _ = tree_flatten_with_path(tree, is_leaf=lambda one: _is_of(one, "haliax", "NamedArray"))
    return {path for path, value in found if _is_of(value, "haliax", "NamedArray")}


def _is_keras_variable(value: Any) -> bool:
    return _is_of(value, "keras", "Variable") and hasattr(value, "path")


def _is_of(value: Any, library: str, name: str) -> bool:
    """Whether a value is of a class of this name in a library, or below it."""
    kinds = type(value).__mro__
    return any(k.__name__ == name and k.__module__.split(".")[0] == library for k in kinds)


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
    if _is_of(value, "keras", "Layer"):
        message = (
            f"this leaf is a {type(value).__name__} of Keras, which is no tree of arrays; give "
            "its variables, as model.weights"
        )
        return Violation(name, "shape", message)
    if type(value).__module__.startswith("torch"):
        message = "this leaf is a tensor of torch (KERAS_BACKEND?); use initclient.torch"
        return Violation(name, "shape", message)
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
    return None


def _sharding(value: Any) -> Any:
    # An uncommitted array lies on the default device, and JAX may move it.
    if isinstance(value, jax.core.Tracer):
        # Within a transformation it has a shape, and no place yet.
        return None
    return getattr(value, "sharding", None) if getattr(value, "committed", True) else None
