"""Operations without a form on the meta device: run on the CPU if values are known, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from initcore import PlanError, Violation
from torch.utils._pytree import tree_map

from initclient._laws import Source
from initclient.torch._trace.expressions import operation_name
from initclient.torch._trace.operations import changed_tensors
from initclient.torch._trace.sources import source

if TYPE_CHECKING:
    from initclient.torch._trace.trace import Trace


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
