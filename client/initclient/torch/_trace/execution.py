"""Operations without a form on the meta device, computed on the CPU from values that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from initclient.torch._trace.operations import changed_tensors

if TYPE_CHECKING:
    from initclient.torch._trace.trace import Trace


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
