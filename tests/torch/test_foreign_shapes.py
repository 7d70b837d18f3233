"""A parameter whose shape is not the model's is refused by name, wherever a model is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


PLAN = ict.plan(net(), seed=7)

VERBS: list[Callable[[nn.Module], Any]] = [
    ict.plan,
    lambda model: ict.init_(model, PLAN, "local"),
    lambda model: ict.verify(model, PLAN, "local"),
    lambda model: ic.verify(model, PLAN, target="local"),
    lambda model: ic.verify(model.state_dict(keep_vars=True), PLAN, target="local"),
    lambda model: ict.lsuv(model, PLAN, torch.ones(5, 4)),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("mark", "value", "words"),
    [
        ("ds_id", 0, r"is \[2, 3\] here, .*zero\.Init has partitioned .*\(ds_id\); make, plan"),
        ("ds_shape", (8, 3), r"\(ds_shape\); the model's is \[8, 3\]; make, plan and fill"),
        ("ds_tensor", torch.zeros(3), r"\(ds_tensor\); make, plan and fill the model outside"),
        ("tensor_model_parallel", True, r"one rank's part: Megatron .*\(ic\.fetch_file\), or, if"),
    ],
)
def test_marks_of_launchers_are_refused(
    verb: Callable[[nn.Module], Any], mark: str, value: Any, words: str
) -> None:
    model = net()
    setattr(model[1].weight, mark, value)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ic.PlanError, match=rf"tensor '1\.weight': shape: .*{words}") as caught:
        verb(model)
    assert len(caught.value.violations) == 1
    assert all(map(torch.equal, before, model.parameters()))


def test_parameters_that_megatron_has_not_cut_are_taken() -> None:
    model = net()
    for parameter in model.parameters():
        parameter.tensor_model_parallel = False  # type: ignore[attr-defined]
    assert ict.plan(model, seed=7) == PLAN


@pytest.mark.parametrize(
    ("module", "shapes"),
    [
        (nn.Linear(4, 2), {"weight": [2, 4], "bias": [2]}),
        (nn.Conv2d(4, 6, (3, 5), groups=2), {"weight": [6, 2, 3, 5], "bias": [6]}),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), {"weight": [4, 3, 3], "bias": [6]}),
        (nn.Embedding(9, 4), {"weight": [9, 4]}),
        (nn.EmbeddingBag(9, 4), {"weight": [9, 4]}),
        (nn.LayerNorm((3, 4)), {"weight": [3, 4], "bias": [3, 4]}),
        (nn.RMSNorm(4), {"weight": [4]}),
        (nn.BatchNorm2d(4), {"weight": [4], "bias": [4]}),
        (nn.GroupNorm(2, 4), {"weight": [4], "bias": [4]}),
        (nn.MultiheadAttention(4, 2), {"in_proj_weight": [12, 4], "in_proj_bias": [12]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_emptied_parameter_is_refused_with_the_shape_that_its_module_says(
    module: nn.Module, shapes: dict[str, list[int]]
) -> None:
    for name, shape in shapes.items():
        parameter = module.get_parameter(name)
        assert list(parameter.shape) == shape
        parameter.data = torch.empty(0)
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(module)
    said = {violation.tensor: violation.message for violation in caught.value.violations}
    assert said.keys() == shapes.keys()
    for name, shape in shapes.items():
        assert said[name].startswith(f"is [0] here, and {type(module).__name__} says {shape}: ")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_modules_that_are_empty_by_right_are_taken() -> None:
    model = nn.Sequential(nn.Linear(3, 0), nn.LayerNorm(0), nn.BatchNorm1d(0))
    assert ict.plan(model).tensors["0.bias"].shape == (0,)
