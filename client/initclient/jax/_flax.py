"""The default initializers of Flax's own layers, chosen by the names of their parameters.

Read from flax/linen and flax/nnx/nn (linear.py, attention.py, normalization.py, recurrent.py) of
Flax 0.12. A tree has names and shapes but no layers, so a leaf has a default here only if its
name and shape identify its layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TypeAlias, cast

import initcore as ic

from initclient.jax._leaves import Leaf
from initclient.jax._rules import Initializer

Path: TypeAlias = tuple[str, ...]

# Layers within recurrent cells: of the hidden state, and of the input. Those of the hidden state
# draw orthogonal matrices, whole or in parts, and MGUCell has biases of one.
_FROM_HIDDEN = frozenset({"h", "hi", "hf", "hg", "ho", "hr", "hz", "hn", "dense_h"})
_FROM_INPUT = frozenset({"i", "ii", "if", "if_", "ig", "io", "ir", "iz", "in", "in_", "dense_i"})

_PROJECTIONS = ("query", "key", "value", "out")

# lecun_normal is the kernel_init of every layer: variance 1 / fan_in, where the kernel's last
# axis is the output and all others are inputs.
_KERNEL = partial(ic.lecun_normal, layout="jax")
# variance_scaling(1, "fan_in", "normal", out_axis=0) with JAX's in_axis=-2: for a matrix both
# are the first axis, so fan_in counts the second axis, the features.
_EMBEDDING = partial(ic.variance_scaling, mode="fan_in", distribution="normal", layout="torch")


class FlaxDefaults:
    """The initializers of Flax's layers, as far as a tree identifies them.

    Args:
        leaves: all leaves of the tree.
    """

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        self._shapes = {leaf.keys: leaf.shape for leaf in leaves}
        self._children: dict[Path, set[str]] = {}
        for keys in self._shapes:
            for depth, key in enumerate(keys):
                self._children.setdefault(keys[:depth], set()).add(key)

    def of(self, leaf: Leaf) -> Initializer | None:
        """The initializer of a leaf; None if its layer is not certain."""
        layer, parameter = leaf.keys[:-1], leaf.keys[-1] if leaf.keys else ""
        if self._is_recurrent(layer):
            return None
        if parameter in ("mean", "var"):
            pair = (self._shapes.get((*layer, key)) for key in ("mean", "var"))
            if any(shape != leaf.shape for shape in pair):
                return None
            return ic.zeros if parameter == "mean" else ic.ones
        if parameter == "embedding" and len(leaf.shape) == 2:
            return _EMBEDDING
        if parameter == "kernel":
            return self._kernel(layer, leaf.shape)
        constants: dict[str, Initializer] = {"bias": ic.zeros, "scale": ic.ones}
        return constants.get(parameter)

    def _is_recurrent(self, layer: Path) -> bool:
        if not layer or layer[-1] not in _FROM_HIDDEN | _FROM_INPUT:
            return False
        beside = self._children[layer[:-1]]
        return bool(beside & _FROM_HIDDEN) and bool(beside & _FROM_INPUT)

    def _kernel(self, layer: Path, shape: tuple[int, ...]) -> Initializer | None:
        if len(shape) == 2:
            return cast(Initializer, _KERNEL)
        if len(shape) < 2:
            return None
        if self._is_attention(layer):
            if layer[-1] == "out":
                return cast(Initializer, _KERNEL)
            # [in, heads, features]: Flax draws it as the matrix [in, heads * features]. With
            # layout="jax" the heads count as inputs; the scale cancels that factor.
            return partial(ic.variance_scaling, scale=shape[1], mode="fan_in", layout="jax")
        # A bias with one axis: one layer with one axis of outputs. Without it this may be a stack
        # of layers (scan, vmap), whose first axis is no input.
        has_one_output_axis = self._shapes.get((*layer, "bias")) == shape[-1:]
        return cast(Initializer, _KERNEL) if has_one_output_axis else None

    def _is_attention(self, layer: Path) -> bool:
        """Whether the layer is one of the four within MultiHeadDotProductAttention."""
        if not layer or layer[-1] not in _PROJECTIONS:
            return False
        query, key, value, out = (
            self._shapes.get((*layer[:-1], name, "kernel"), ()) for name in _PROJECTIONS
        )
        if any(len(shape) != 3 for shape in (query, key, value, out)):
            return False
        if len(self._shapes.get((*layer[:-1], "out", "bias"), (0,))) != 1:
            return False
        return query[1:] == key[1:] == value[1:] == out[:2]
