"""Where leaves lie: the mesh of the context, abstract meshes, and trees of shardings.

Under `jax.set_mesh` descriptions of arrays may name axes of a mesh without its devices, as
PartitionSpec or with an abstract mesh. The devices are then those of the context's mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jax.tree_util import tree_flatten_with_path

from initclient.jax._leaves import is_setting


def on_devices(sharding: Any) -> Sharding | None:
    """The sharding with its devices; None means the default device.

    Raises:
        ValueError: if it has none, and no mesh of the context gives them.
    """
    if isinstance(sharding, PartitionSpec):
        spec, kind = sharding, None
    elif isinstance(sharding, NamedSharding) and not isinstance(sharding.mesh, Mesh):
        if sharding.mesh.empty:
            # No axes: JAX describes arrays so where no mesh is set.
            return None
        spec, kind = sharding.spec, sharding.memory_kind
    elif sharding is None or isinstance(sharding, Sharding):
        return sharding
    else:
        raise ValueError(f"{sharding!r} is no sharding; give one, or a PartitionSpec")
    mesh = _current()
    if mesh is None:
        raise ValueError(
            f"{sharding} has no devices; call it under jax.set_mesh(mesh), or give "
            f"NamedSharding(mesh, {spec})"
        )
    unknown = {axis for axes in spec for axis in _named(axes)} - set(mesh.axis_names)
    if unknown:
        raise ValueError(
            f"{spec} names {sorted(map(str, unknown))}, and the mesh of the context has the axes "
            f"{list(mesh.axis_names)}"
        )
    return NamedSharding(mesh, spec, memory_kind=kind)


def spread(shardings: Any, tree: Any) -> list[Any]:
    """For each array of a tree, what a tree of shardings has for it.

    Args:
        shardings: shardings, partition specs and None, in a tree of the same structure or of a
            prefix of it, as `out_shardings` of jax.jit.
        tree: the tree.

    Raises:
        ValueError: if the trees do not fit.
    """

    def repeated(sharding: Any, part: Any) -> Any:
        return jax.tree_util.tree_map(lambda _: _Given(sharding), part)

    def is_leaf(value: Any) -> bool:
        return value is None or isinstance(value, PartitionSpec | Sharding)

    try:
        given = jax.tree_util.tree_map(repeated, shardings, tree, is_leaf=is_leaf)
    except (TypeError, ValueError) as error:
        raise ValueError(f"out_shardings does not fit the tree: {error}") from error
    pairs = zip(tree_flatten_with_path(tree)[0], jax.tree_util.tree_leaves(given), strict=True)
    return [one.sharding for leaf, one in pairs if not is_setting(*leaf)]


@dataclass(frozen=True)
class _Given:
    """A sharding as a leaf, which None and some specs are not."""

    sharding: Any


def _current() -> Mesh | None:
    """The mesh that jax.set_mesh has set, if there is one."""
    get_mesh = getattr(jax.sharding, "get_mesh", None)
    mesh = None if get_mesh is None else get_mesh()
    return mesh if isinstance(mesh, Mesh) and not mesh.empty else None


def _named(axes: Any) -> tuple[Any, ...]:
    """The mesh axes of one dimension of a PartitionSpec."""
    if axes is None or axes is PartitionSpec.UNCONSTRAINED:
        return ()
    return tuple(axes) if isinstance(axes, tuple | list) else (axes,)
