"""Signals through a model: the measurements of `initclient.torch.flow`, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerFlow:
    """The output of one layer, and the gradient that comes back to it.

    Attributes:
        name: the module's name in the model; a further call of it has its number, as in
            "act (2)".
        kind: the module's class.
        mean: mean of the output's elements.
        std: their standard deviation.
        grad_mean: mean of the loss's derivatives by these elements; NaN if none came back.
        grad_std: their standard deviation.
    """

    name: str
    kind: str
    mean: float
    std: float
    grad_mean: float
    grad_std: float


@dataclass(frozen=True)
class Flow:
    """The signals of one batch through a model that was filled by one plan.

    Attributes:
        label: tells it from other flows, such as the recipe's name.
        layers: the layers in the order of their calls.
    """

    label: str
    layers: tuple[LayerFlow, ...] = field(repr=False)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(flow: Flow) -> Iterator[str]:
    width = max((len(layer.name) for layer in flow.layers), default=0)
    yield f"{flow.label:{width}}  {'std':>10}  {'grad std':>10}"
    for layer in flow.layers:
        yield f"{layer.name:{width}}  {number(layer.std):>10}  {number(layer.grad_std):>10}"


def number(value: float) -> str:
    """A measured number in a few digits; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4g}"
