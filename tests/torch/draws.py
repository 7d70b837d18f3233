"""Records the draws of a module's own initialization, and compares them with a plan's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import initclient as ic
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

Draw: TypeAlias = tuple[str, float, float]
"""("uniform_", low, high) or ("normal_", mean, std)."""

DEPRECATED = pytest.mark.filterwarnings("ignore:recipe .* repeats what:FutureWarning")
"""For tests of recipes that repeat a library, with a model."""

# Of a KS test. Everything is seeded, so a test that passes goes on passing.
SIGNIFICANCE = 1e-3


class Recorder(TorchDispatchMode):
    """Remembers the last draw into each piece of memory, with the doubles that torch passed."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: dict[int, Draw] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("uniform_", "normal_"):
            defaults = (0.0, 1.0)
            given = tuple(float(value) for value in args[1:3])
            low, high = given + defaults[len(given) :]
            self.draws[args[0].data_ptr()] = (name, low, high)
        return func(*args, **(kwargs or {}))


def recorded(
    build: Callable[[], nn.Module],
) -> tuple[nn.Module, dict[str, tuple[str, float, float]]]:
    """A module, and for each of its parameters the draw that made it."""
    with Recorder() as recorder:
        module = build()
    draws = recorder.draws
    named = {
        name: draws[parameter.data_ptr()]
        for name, parameter in module.named_parameters()
        if parameter.data_ptr() in draws
    }
    return module, named


def resolved(plan: ic.Plan) -> dict[str, Draw]:
    """The draws of a plan, in the same form, without constants."""
    found: dict[str, Draw] = {}
    for tensor in ic.describe(plan, target="local").tensors:
        if not tensor.std:
            continue
        if tensor.low is None or tensor.high is None:
            found[tensor.name] = ("normal_", tensor.mean or 0.0, tensor.std)
        else:
            found[tensor.name] = ("uniform_", tensor.low, tensor.high)
    return found


def same_distribution(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether a two-sample KS test accepts both as draws from one distribution."""
    if theirs.numel() == 0:
        return ours.numel() == 0
    if bool((theirs == theirs.flatten()[0]).all()):
        return torch.equal(ours, theirs)
    first, second = (x.detach().double().flatten().numpy() for x in (ours, theirs))
    p = stats.ks_2samp(first, second, method="asymp").pvalue
    return not math.isnan(p) and p > SIGNIFICANCE
