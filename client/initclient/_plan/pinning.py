"""Pins a tensor to the stream of its current name, so that renaming keeps its values."""

from __future__ import annotations

from dataclasses import replace

from initcore import Tensor
from initcore.plan import SCHEMES


def pinned(tensor: Tensor, name: str) -> Tensor:
    """The tensor with its stream (for `pretrained`: its source) set to its current name.

    Args:
        tensor: a tensor of a plan.
        name: its name in the plan.
    """
    scheme = SCHEMES.get(tensor.scheme)
    if scheme is None or scheme.draws:
        return replace(tensor, stream=name) if tensor.stream is None else tensor
    if tensor.scheme == "pretrained" and tensor.source is None:
        return replace(tensor, source=name)
    # Composed of parts, which have names of their own.
    return tensor
