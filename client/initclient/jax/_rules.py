"""Rules: which leaves of a tree get which initializer."""

from __future__ import annotations

import re
from typing import Any

from initclient._plan import Initializer, Rule, by_name
from initclient.jax._axes import AxisRule, takes_axes

__all__ = ["Initializer", "Rule", "rule"]


def rule(where: str | re.Pattern[str], initializer: Initializer, /, **arguments: Any) -> Rule:
    """A rule for `plan`: these leaves get this initializer.

    Args:
        where: a glob for the leaf's whole name, in which `*` also matches slashes; or a
            compiled regular expression that matches the whole name.
        initializer: a builder such as `ic.lecun_normal`, without a shape; or any function that
            takes the shape, and dtype as a keyword, and returns a `Tensor`.
        arguments: the builder's arguments, and JAX's axes. Kernels are [*window, in, out] unless
            `layout="torch"` is given; stacked layers and experts need `batch_axes=(0,)`, and are
            drawn apart. Builders that count fans also take `in_axis` and `out_axis` (an axis or
            several, as jax.nn.initializers has them), `orthogonal` and `delta_orthogonal`
            `column_axis`. A tensor that a function of your own makes stays as it is.

    Raises:
        TypeError: for an argument of another type, and for shape, dtype or stream, which the
            tree gives.

    Example:
        >>> import initclient as ic
        >>> from initclient.jax import rule
        >>> rule("*/head/kernel", ic.glorot_normal, layout="jax")
        rule('*/head/kernel', glorot_normal, layout='jax')
        >>> rule("layers/*/kernel", ic.orthogonal, batch_axes=(0,))
        rule('layers/*/kernel', orthogonal, batch_axes=(0,))
    """
    made = by_name(where, initializer, arguments, "the tree")
    if takes_axes(initializer, arguments):
        return AxisRule(made.where, made.initializer, made.arguments)
    return made
