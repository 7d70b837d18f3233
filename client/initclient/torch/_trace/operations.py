"""Operations: what torch's schemas say of an operation, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from initclient.torch._trace.draws import is_random
from initclient.torch._trace.evaluation import tensors_in

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


def outputs(func: Any, keywords: Mapping[str, Any]) -> list[Any]:
    """The arguments for results, such as `out=`."""
    arguments = func._schema.arguments
    names = [one.name for one in arguments if one.kwarg_only and one.alias_info is not None]
    return [keywords[name] for name in names if name in keywords]


def is_view(func: Any) -> bool:
    """Whether an operation gives another view of its operand's storage."""
    return any(one.alias_info is not None for one in func._schema.returns)
