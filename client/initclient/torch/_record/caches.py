"""Caches of the recorded code: tensors of one run that the other run meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from initclient.torch._trace import Expression, Kept, Trace

# Places of a module for its parameters, buffers and children, which are found otherwise.
_OWN = ("_parameters", "_buffers", "_modules")


def meet_attributes(model: nn.Module, trace: Trace) -> None:
    """Looks at the tensors that a model has as plain attributes, also within containers.

    Args:
        model: the model that the traced code made.
        trace: its trace, whose memory notes those that an earlier run made.
    """
    seen: set[int] = set()
    left: list[Any] = []
    for module in model.modules():
        left += [value for name, value in vars(module).items() if name not in _OWN]
    while left:
        one = left.pop()
        if isinstance(one, torch.Tensor):
            # Tensors of some layouts have no storage.
            with suppress(NotImplementedError, RuntimeError):
                trace.memory.meet(one)
        elif isinstance(one, Mapping | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            left += one.values() if isinstance(one, Mapping) else one


def cache_notes(traces: Iterable[Trace]) -> Iterator[str]:
    """A sentence for each line whose tensors the code keeps on the meta device.

    Args:
        traces: the traces of the runs of the code.
    """
    found = [made for trace in traces if trace.on_meta for made in trace.memory.kept.values()]
    yield from dict.fromkeys(made.note for made in found)


def kept_in(expression: Expression | None) -> Kept | None:
    """The tensor of an earlier run that an expression is made of; None if there is none."""
    seen: set[int] = set()
    left = [] if expression is None else [expression]
    while left:
        one = left.pop()
        if isinstance(one, Kept):
            return one
        if id(one) not in seen:
            seen.add(id(one))
            left += one.operands()
    return None
