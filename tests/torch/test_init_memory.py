"""The memory that init_ fills is the plan's, whatever code of modules and defaults of torch do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient._source import InProcess, make_request
from initclient.torch._filling import fill
from initserver import Server, ServerConfig
from torch import nn


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0)) as server:
        yield server.address


class Renewing(nn.Module):
    """Its reset_parameters makes a new parameter, and computes a buffer."""

    def __init__(self, dtype: torch.dtype | None = None, *, complete: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 4), 99.0))
        self.register_buffer("angles", torch.arange(4.0), persistent=False)
        self.dtype, self.complete = dtype, complete

    def reset_parameters(self) -> None:
        self.weight = nn.Parameter(torch.zeros(4, 4, dtype=self.dtype))
        self.angles = torch.arange(4.0)
        if not self.complete:
            raise RuntimeError("made for another moment")


def test_code_that_makes_new_parameters_breaks_no_tie() -> None:
    model = nn.ModuleDict({"a": Renewing(), "b": Renewing()})
    model["b"].weight = model["a"].weight
    before = model["a"].weight
    plan = ict.plan(model, [ict.rule("*", ic.normal)])
    ict.init_(model, plan, "local")
    assert model["a"].weight is model["b"].weight is before
    wanted = ic.fetch(plan, target="local")["a.weight"]
    assert torch.equal(model["b"].weight, torch.from_numpy(wanted))
    assert ict.verify(model, plan, "local").ok


def test_code_that_changes_an_element_type_changes_no_value(target: str) -> None:
    for source in ("local", target):
        model = nn.ModuleDict({"r": Renewing(torch.float32), "s": nn.Linear(3, 3)}).bfloat16()
        plan = ict.plan(model, [ict.rule("*", ic.normal)])
        ict.init_(model, plan, source)
        assert model["r"].weight.dtype == torch.bfloat16
        assert ict.verify(model, plan, "local").ok


def test_memory_of_another_type_or_shape_is_refused_by_name() -> None:
    request = make_request(ic.Plan({"w": ic.normal((4, 4), dtype="BF16")}), None, InProcess())
    for wrong in (torch.zeros(4, 4), torch.zeros(4, 4).half(), torch.zeros(2, 8).bfloat16()):
        with pytest.raises(ic.PlanError, match=r"'w': dtype: is .* in the model's memory"):
            fill(request, [wrong])
        assert not wrong.any()


@pytest.mark.parametrize("place", ["local", "server"])
def test_the_default_device_is_no_part_of_staging(place: str, target: str) -> None:
    model = nn.Conv2d(6, 4, 3).to(memory_format=torch.channels_last)
    plan = ict.plan(model)
    with torch.device("meta"):
        ict.init_(model, plan, "local" if place == "local" else target)
    assert ict.verify(model, plan, "local").ok


def test_a_sharded_value_is_refused_before_anything_changes() -> None:
    class Sharded(torch.Tensor):
        pass

    model = nn.Linear(2, 2)
    value = torch.zeros(2).as_subclass(Sharded)
    module = "torch.distributed.tensor"
    had = sys.modules.get(module)
    sys.modules[module] = SimpleNamespace(DTensor=Sharded)  # type: ignore[assignment]
    try:
        with pytest.raises(TypeError, match="'bias' is a DTensor; give the whole"):
            ict.init_(model, ict.plan(model), "local", values={"bias": value})
    finally:
        sys.modules.pop(module)
        if had is not None:
            sys.modules[module] = had
