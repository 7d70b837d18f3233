"""What a tensor's name stands for in a plan, spelled out, so that it may have another name."""

from __future__ import annotations

from dataclasses import replace

from initcore import Tensor
from initcore.plan import SCHEMES


def anchored(tensor: Tensor, name: str) -> Tensor:
    """The tensor with the values that it has under a name, whatever it is called.

    Args:
        tensor: a tensor of a plan.
        name: its name there.
    """
    scheme = SCHEMES.get(tensor.scheme)
    if scheme is None or scheme.draws:
        return replace(tensor, stream=name) if tensor.stream is None else tensor
    if tensor.scheme == "pretrained" and tensor.source is None:
        return replace(tensor, source=name)
    # Made of parts, which have names of their own.
    return tensor
