"""The axes that builders mean by themselves are torch's, and those of a JAX kernel are others.

torch's weight is [out, in, *window] and JAX's kernel [*window, in, out].
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import initcore
from initcore import Plan, PlanError, Tensor, Violation
from initcore.plan import SCHEMES
from initcore.resolve import resolve

from initclient._plan import Rule

# Schemes of matrices for which torch's convolutions count too, with remedies for JAX's.
_REMEDIES = {
    "orthogonal": "a matrix of all but the last axis, and the last, by the function lambda shape, "
    "dtype=None: ic.reshape(shape, {'matrix': ic.orthogonal((math.prod(shape[:-1]), shape[-1]), "
    "dtype=dtype)})",
    "hadamard": "a convolution, by the function lambda shape, dtype=None: ic.permute({'torch': "
    "ic.hadamard((shape[-1], shape[-2], *shape[:-2]), dtype=dtype)}, "
    "(*range(2, len(shape)), 1, 0))",
}


def in_jax_axes(made: Tensor, name: str, rule: Rule) -> Tensor:
    """The tensor that a builder has made for a JAX leaf, with JAX's axes in place of torch's.

    Args:
        made: what the rule's initializer made.
        name: the leaf's name.
        rule: the rule; what a function of the user's own makes stays as it is.

    Raises:
        PlanError: if the scheme means torch's axes, and a leaf of this shape may have others.
    """
    initializer: Any = rule.initializer
    given = dict(rule.arguments)
    while isinstance(initializer, partial):
        given = {**initializer.keywords, **given}
        initializer = initializer.func
    scheme = getattr(initializer, "__name__", "")
    if scheme not in SCHEMES or getattr(initcore, scheme, None) is not initializer:
        return made
    if "layout" in SCHEMES[scheme].arguments:
        return made if "layout" in given else replace(made, layout="jax")
    if scheme in _REMEDIES and len(made.shape) > 2:
        message = (
            f"{scheme} means a matrix, and the axes of a leaf of shape {list(made.shape)} may be a "
            f"window, heads or stacked layers; say which, as for {_REMEDIES[scheme]}"
        )
        raise PlanError([Violation(name, "scheme", message)])
    is_turned = scheme == "hadamard" and len(made.shape) == 2 and made.shape[0] != made.shape[1]
    if is_turned or (scheme == "dirac" and len(made.shape) > 2):
        return _turned(made)
    return made


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have different values under one name."""
    if one == other:
        return False
    try:
        a, b = (resolve(Plan({"x": tensor}))[0] for tensor in (one, other))
    except PlanError:
        # The check of the plan says what is wrong.
        return False
    return a.content != b.content


def _turned(made: Tensor) -> Tensor:
    """torch's [out, in, *window] of the tensor's scheme, as JAX's kernel."""
    *window, inputs, outputs = made.shape
    count = len(made.shape)
    weight = replace(made, shape=(outputs, inputs, *window), zero_rows=None)
    kernel = initcore.permute({"torch": weight}, (*range(2, count), 1, 0))
    return replace(kernel, zero_rows=made.zero_rows)
