"""plan refuses torch's defaults within a model that initializes itself, and shows what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn
from torch.nn.init import trunc_normal_ as narrow


class Body(nn.Module):
    """Layers of torch, and no code of its own that initializes them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A draw that is no initialization.
        return self.body(x + torch.empty_like(x).normal_())


class ByMethod(Body):
    def __init__(self) -> None:
        super().__init__()
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


class ByConstructor(Body):
    """As torchvision's models do."""

    def __init__(self) -> None:
        super().__init__()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")


class ByAFunctionWithin(Body):
    def __init__(self) -> None:
        super().__init__()

        def start(module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

        for module in self.modules():
            start(module)


def start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.ones_(module.weight)


class ByApply(Body):
    def __init__(self) -> None:
        super().__init__()
        self.apply(start)


def logged(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def call(*arguments: nn.Module) -> None:
        function(*arguments)

    return call


class ByAnotherName(Body):
    def __init__(self) -> None:
        super().__init__()
        self.initialize_parts()

    @logged
    def initialize_parts(self) -> None:
        self.body[0].weight.data.uniform_(-0.1, 0.1)


class OfAParent(ByConstructor):
    pass


class ByZeros(Body):
    def __init__(self) -> None:
        super().__init__()
        self.body[0].weight.data.zero_()


class ByScaling(Body):
    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.body[0].weight *= 0.5


class ByAssignment(Body):
    def __init__(self) -> None:
        super().__init__()
        for name, parameter in self.named_parameters():
            if name == "body.0.weight":
                parameter.data = torch.eye(4)


def zeroed(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.detach().zero_()
    return module


class ByAHelper(Body):
    def __init__(self) -> None:
        super().__init__()
        zeroed(self.body[0])


class ByAMethodOfAnyName(Body):
    def __init__(self) -> None:
        super().__init__()
        self.finish()

    def finish(self) -> None:
        nn.init.zeros_(self.body[0].weight)


class ByAnotherNameOfTorchs(Body):
    def __init__(self) -> None:
        super().__init__()
        narrow(self.body[0].weight, std=0.02)


OWN = (
    *(ByAHelper, ByAMethodOfAnyName, ByAnotherNameOfTorchs),
    *(ByMethod, ByConstructor, ByAFunctionWithin, ByApply, ByAnotherName, OfAParent),
    *(ByZeros, ByScaling, ByAssignment),
)


class WithMask(nn.Module):
    """What its constructor fills is a buffer, and what it ties stays as torch drew it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 4)
        self.head = nn.Linear(self.embedding.weight.shape[1], 4)
        self.head.weight = self.embedding.weight
        mask = torch.empty(4, 4)
        with_ones(mask)
        self.register_buffer("mask", mask.triu(1), persistent=False)


def with_ones(mask: torch.Tensor) -> None:
    mask.fill_(1.0)


class WithTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.register_buffer("table", torch.empty(4).fill_(2.0).mul_(3.0), persistent=False)


@pytest.mark.parametrize("kind", OWN)
def test_torchs_defaults_within_such_a_model_are_refused_with_the_line_that_records_it(
    kind: type[nn.Module],
) -> None:
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(kind(), seed=7)
    first, second = caught.value.violations
    assert (first.tensor, second.tensor) == ("body.0.weight", "body.0.bias")
    assert f"{kind.__name__} (" in first.message
    assert "initializes its weights itself" in first.message
    assert f"ict.record({kind.__name__}, ...).plan(seed=7)" in first.message
    assert "recipe='torch'" in first.message
    assert "as for body.0.weight" in second.message
    # What is shown is a whole plan, and that of the model's own code.
    plan = ict.record(kind).plan(seed=7)
    assert list(plan) == ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]
    assert plan["body.0.weight"] != ict.plan(Body())["body.0.weight"]


@pytest.mark.parametrize("kind", OWN)
def test_rules_and_a_recipe_decide_in_its_place(kind: type[nn.Module]) -> None:
    rules = [ict.rule("*.bias", ic.zeros), ict.rule(nn.Linear, ic.normal, std=0.02)]
    plan = ict.plan(kind(), rules, seed=7)
    assert plan["body.0.weight"].scheme == "normal"
    # A rule for one of two parameters leaves the other one without.
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(kind(), rules[:1])
    assert [one.tensor for one in caught.value.violations] == ["body.0.weight"]
    kept = ict.plan(kind(), [ict.rule("body.0.*", ict.keep)])
    assert list(kept) == ["body.1.weight", "body.1.bias"]
    assert list(ict.plan(kind(), only="body.1.*")) == list(kept)


@pytest.mark.parametrize("kind", [WithMask, WithTable])
def test_a_constructor_that_fills_other_tensors_initializes_no_parameter(
    kind: type[nn.Module],
) -> None:
    assert ict.plan(kind())


def test_layers_of_torch_in_a_module_without_such_code_have_torchs_defaults() -> None:
    assert ict.plan(Body())["body.0.weight"].scheme == "kaiming_uniform"
    assert len(ict.plan(nn.Sequential(Body(), nn.Linear(2, 2)))) == 6


def test_a_container_or_wrapper_around_it_is_recorded_with_the_function_that_builds_it() -> None:
    for model in (nn.Sequential(ByMethod()), nn.DataParallel(ByMethod())):
        with pytest.raises(ic.PlanError, match=r"ict\.record\(make\)\.plan\(seed=3\), where make"):
            ict.plan(model, seed=3)
