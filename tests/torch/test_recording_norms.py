"""A recording has the norms of weight norm in its plan, as norms of the plan's own directions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn

from tests.torch.recordings import CPU_AND_META, Holder

NORMED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    **{
        f"parametrized, dim {dim}": (
            lambda dim=dim: nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3), dim=dim),
            "parametrizations.weight.original0 parametrizations.weight.original1",
        )
        for dim in (0, 1, 2, -1, None)
    },
    **{
        f"plain, dim {dim}": (
            lambda dim=dim: nn.utils.weight_norm(nn.ConvTranspose2d(4, 6, 3), dim=dim),
            "weight_g weight_v",
        )
        for dim in (0, 1, 3, None)
    },
}


def fixed_relation(build: Callable[[], nn.Module], names: str, device: str) -> dict[str, Any]:
    """Lengths are the norms of the plan's own directions, as they are the norms of the model's."""
    length, direction = names.split()
    plan = ict.record(build, device=device).plan(seed=3)
    values = ic.fetch(plan, target="local")
    model = {name: tensor.detach() for name, tensor in build().named_parameters()}
    wide = torch.from_numpy(values[direction]).double()
    whole = tuple(range(wide.dim()))
    for axes in [whole, *(tuple(a for a in whole if a != axis) for axis in whole)]:
        norm = torch.linalg.vector_norm(model[direction].double(), dim=axes)
        if norm.numel() == model[length].numel() and torch.allclose(
            norm.flatten(), model[length].double().flatten()
        ):
            expected = torch.linalg.vector_norm(wide, dim=axes).reshape(values[length].shape)
            assert torch.allclose(torch.from_numpy(values[length]).double(), expected)
            return {"plan": plan, "length": length, "direction": direction}
    raise AssertionError("the model's own lengths are no norms of its directions")


@CPU_AND_META
@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_weight_norm_starts_from_the_norm_of_its_direction(kind: str, device: str) -> None:
    fixed_relation(*NORMED[kind], device)


@CPU_AND_META
def test_a_write_through_the_parametrization_keeps_the_relation(device: str) -> None:
    def build() -> nn.Module:
        layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3))
        with torch.no_grad():
            layer.weight = torch.empty(6, 4, 3).normal_(std=3)
        return layer

    found = fixed_relation(build, NORMED["parametrized, dim 0"][1], device)
    assert found["plan"].tensors[found["direction"]].std == 3


def test_a_norm_of_a_draw_that_is_overwritten_is_the_norm_of_a_draw_of_its_own() -> None:
    def build() -> nn.Module:
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        nn.init.normal_(layer.parametrizations.weight.original1, std=5.0)
        return layer

    tensors = ict.record(build).plan().tensors
    ((name, part),) = tensors["parametrizations.weight.original0"].parts or ()
    assert (name, part.scheme) == ("parametrizations.weight.original0/of", "uniform")
    assert tensors["parametrizations.weight.original1"].std == 5


def test_a_norm_of_draws_that_changed_afterwards_is_refused() -> None:
    def build() -> nn.Module:
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        with torch.no_grad():
            layer.parametrizations.weight.original1.mul_(2)
        return layer

    with pytest.raises(ic.PlanError, match=r"original0.*parametrizations.py:.*original1 too"):
        ict.record(build).plan()


def test_copies_of_a_layer_have_the_lengths_of_their_own_directions() -> None:
    def build() -> nn.Module:
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        return nn.ModuleList([layer, copy.deepcopy(layer), copy.deepcopy(layer)])

    recording = ict.record(build)
    rule = ict.rule("0.*original1", ic.normal, std=9.0)
    for rules in ([], [rule]):
        values = ic.fetch(recording.plan(seed=1, rules=rules), target="local")
        for layer in "012":
            name = f"{layer}.parametrizations.weight.original"
            wanted = np.linalg.norm(values[f"{name}1"], axis=1, keepdims=True)
            assert values[f"{name}0"] == pytest.approx(wanted)
        assert (values[f"{name}1"] == values[f"1{name[1:]}1"]).all()
        assert (values[f"{name}1"] == values[f"0{name[1:]}1"]).all() == (not rules)


@pytest.mark.parametrize("dim", [0, 1, None, -1])
def test_a_rule_for_the_direction_decides_the_length_too(dim: int | None) -> None:
    recording = ict.record(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4), dim=dim))
    rule = ict.rule("*original1", ic.normal, std=1.0)
    names = [f"parametrizations.weight.original{number}" for number in (0, 1)]
    length, direction = (
        ic.fetch(recording.plan(seed=1, rules=[rule]), target="local")[name] for name in names
    )
    axis = 1 - dim if dim in (0, 1) else None
    assert length.ravel() == pytest.approx(np.linalg.norm(direction, axis=axis).ravel())
    assert np.abs(direction).max() > 0.5


def test_a_direction_that_the_plan_leaves_out_asks_for_a_rule_for_the_length() -> None:
    recording = ict.record(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    rule = ict.rule("*original1", ict.given)
    with pytest.raises(
        ic.PlanError, match=r"original0.*norm of .*original1, which the plan leaves out"
    ):
        recording.plan(rules=[rule])
    plan = recording.plan(rules=[rule, ict.rule("*original0", ic.ones)])
    assert plan.tensors["parametrizations.weight.original0"].scheme == "ones"


def test_norms_over_other_axes_and_of_other_orders_are_refused() -> None:
    for make in (lambda: torch.randn(4, 3).norm(p=1, dim=1), lambda: torch.randn(4, 3).sum(1)):
        with pytest.raises(ic.PlanError, match="is no law of its own"):
            ict.record(Holder, make).plan()
