"""Operations: what torch's schemas say of an operation, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from initclient.torch._trace.draws import is_random
from initclient.torch._trace.evaluation import UNDECLARED, tensors_in
from initclient.torch._trace.expressions import Expression

EMPTY = {
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "empty_permuted",
}
FILLED = {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
FULL = {"full": 1, "full_like": 1, "new_full": 2}
SCALARS = {"_local_scalar_dense", "equal", "is_nonzero", "item", "allclose"}
LIFTED = {"lift_fresh", "lift"}


def reads_operands(name: str, func: Any) -> bool:
    """Whether an operation reads the values of its operands."""
    return not (name in EMPTY or name in FILLED or name in FULL or is_random(func))


def changed_tensors(func: Any, args: Any, keywords: Any) -> list[torch.Tensor]:
    """The tensors that an operation writes to."""
    found: list[torch.Tensor] = []
    for place, one in enumerate(func._schema.arguments):
        if one.alias_info is not None and one.alias_info.is_write:
            given = keywords.get(one.name) if one.kwarg_only or place >= len(args) else args[place]
            found += tensors_in(given)
    return found


def undeclared_changes(name: str, args: Any) -> list[torch.Tensor]:
    """The tensors that an operation writes to although its schema does not say so."""
    places = UNDECLARED.get(name, ())
    if name.endswith("batch_norm") and places and not args[5]:
        # Not in training.
        return []
    return [args[place] for place in places if isinstance(args[place], torch.Tensor)]


def outputs(func: Any, keywords: Mapping[str, Any]) -> list[Any]:
    """The arguments for results, such as `out=`."""
    arguments = func._schema.arguments
    names = [one.name for one in arguments if one.kwarg_only and one.alias_info is not None]
    return [keywords[name] for name in names if name in keywords]


def is_view(func: Any) -> bool:
    """Whether an operation gives another view of its operand's storage."""
    return any(one.alias_info is not None for one in func._schema.returns)


def expressions_in(tree: Any) -> list[Expression]:
    """The expressions in arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Expression)]


def counterpart(tensor: torch.Tensor, given: Any, expressions: Any) -> Expression | None:
    """The expression that stands for a tensor among the arguments."""
    tensors = tensors_in(given)
    found = expressions_in(expressions)
    return next((e for t, e in zip(tensors, found, strict=True) if t is tensor), None)
