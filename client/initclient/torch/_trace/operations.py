"""Operations: what torch's schemas say of them, and those without a form on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from initcore import PlanError, Violation
from torch.utils._pytree import tree_leaves, tree_map

from initclient._laws import Source
from initclient.torch._trace.draws import is_random
from initclient.torch._trace.evaluation import UNDECLARED, tensors_in
from initclient.torch._trace.expressions import Expression, operation_name
from initclient.torch._trace.sources import source

if TYPE_CHECKING:
    from initclient.torch._trace.trace import Trace

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


@dataclass(frozen=True)
class Missing:
    """An operation that torch cannot run on the meta device.

    Attributes:
        error: torch's error, which the traced code may catch.
        name: the operation.
        source: the line that asked for it.
    """

    error: NotImplementedError
    name: str
    source: Source

    def refusal(self) -> PlanError:
        """The error that ends the recording if the traced code does not catch torch's."""
        message = (
            f"torch's {self.name}, at {self.source.called}, cannot run on the meta device, where "
            "tensors have no values; record(..., device='cpu') runs it with memory"
        )
        return PlanError([Violation("", "record", message)])


class MissingNoted:
    """Notes in `trace.missing` that an operation in a `with` block has no form on the meta device.

    It is no generator, since a line of contextlib would be the innermost one of the stack.

    Args:
        trace: the trace.
        func: the operation.
    """

    def __init__(self, trace: Trace, func: Any) -> None:
        self._trace = trace
        self._func = func

    def __enter__(self) -> None:
        """Notes nothing."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Notes the error, which goes on."""
        if self._trace.on_meta and isinstance(error, NotImplementedError):
            self._trace.missing = Missing(error, operation_name(self._func), source())


def on_cpu(trace: Trace, func: Any, args: Any, keywords: Any) -> Any:
    """The results of an operation as tensors on meta, whose values the trace remembers.

    Their shapes depend on values, as those of nonzero, or the operation has no meta form.

    Args:
        trace: knows the values of the operands, in which no draw takes part.
        func: the operation.
        args: its arguments, on the meta device.
        keywords: its keyword arguments, likewise.
    """
    if changed_tensors(func, args, keywords):
        raise NotImplementedError(f"{func} has no form on the meta device")

    def real(leaf: Any) -> Any:
        if isinstance(leaf, torch.device):
            return torch.device("cpu")
        return trace.value(leaf, str(func)) if isinstance(leaf, torch.Tensor) else leaf

    values = tree_map(real, (args, keywords))
    with trace.paused():
        made = func(*values[0], **values[1])

    def back(leaf: Any) -> Any:
        return trace.stand_in(leaf) if isinstance(leaf, torch.Tensor) else leaf

    return tree_map(back, made)
