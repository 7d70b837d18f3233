"""Recordings of one parameter or buffer: their plans, and the errors that they end with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn

CPU_AND_META = pytest.mark.parametrize("device", ["meta", "cpu"])

# A KS test of a fixed seed that passes goes on passing; there are some thousand of them.
UNLIKELY = 1e-6


class Holder(nn.Module):
    """One parameter, or buffer, that a function makes."""

    def __init__(self, make: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        made = make()
        if made.is_floating_point() or made.is_complex():
            self.weight = nn.Parameter(made)
        else:
            self.register_buffer("weight", made)


def planned(make: Callable[[], torch.Tensor], device: str = "meta") -> tuple[ic.Tensor, Any]:
    """The tensor of a recorded plan, and its values."""
    plan = ict.record(Holder, make, device=device).plan(seed=5)
    return plan.tensors["weight"], ic.fetch(plan, target="local")["weight"]


def refusal(make: Callable[[], torch.Tensor], device: str = "meta") -> str:
    """The text of the error that names the parameter."""
    with pytest.raises(ic.PlanError) as caught:
        ict.record(Holder, make, device=device).plan()
    (violation,) = caught.value.violations
    assert violation.tensor == "weight"
    assert f"{Path(inspect.getfile(make)).name}:" in violation.message
    return violation.message


def recording_error(build: Callable[[], Any], device: str = "meta") -> str:
    """The text of the error that ends the recording."""
    with pytest.raises(ic.PlanError) as caught:
        ict.record(build, device=device)
    return str(caught.value)
