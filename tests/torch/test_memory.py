"""Models with tensors that a plan cannot fill, or would fill twice, are refused unchanged."""

from __future__ import annotations

from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn


class Holding(nn.Module):
    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            setattr(self, name, nn.Parameter(tensor))


NORMAL = [ict.rule("*", ic.normal)]

SHARED = {
    "the same": lambda memory: (memory[:10], memory[:10]),
    "a part": lambda memory: (memory[:10], memory[5:15]),
    "within": lambda memory: (memory, memory[5:6]),
    "another shape": lambda memory: (memory[:10], memory[:10].view(2, 5)),
    "a column": lambda memory: (memory.view(4, 5), memory.view(4, 5)[:, 0]),
}


@pytest.mark.parametrize("how", SHARED)
def test_parameters_that_share_memory_are_refused_and_stay_as_they_are(how: str) -> None:
    # The second one to be filled would leave the first one with other values than the plan's.
    memory = torch.zeros(20)
    a, b = SHARED[how](memory)
    model = Holding(a=a, b=b)
    plan = ict.plan(model, NORMAL)
    with pytest.raises(ic.PlanError, match="shares memory with") as caught:
        ict.init_(model, plan, target="local")
    assert caught.value.violations[0].field == "storage"
    assert not memory.any()


def test_parameters_side_by_side_in_memory_are_filled() -> None:
    memory = torch.zeros(20)
    columns = memory[10:].view(2, 5)
    model = Holding(a=memory[:10], left=columns[:, :2], right=columns[:, 2:])
    plan = ict.plan(model, NORMAL)
    ict.init_(model, plan, target="local")
    assert ict.verify(model, plan, target="local").ok
    assert memory.all()


def test_aliases_that_the_plan_draws_alike_are_filled() -> None:
    memory = torch.zeros(10)
    model = Holding(a=memory, b=memory)
    one = ic.normal((10,), stream="a")
    plan = ic.Plan({"a": one, "b": one}, 7)
    ict.init_(model, plan, target="local")
    assert ict.verify(model, plan, target="local").ok


def two_buffers(first: torch.Tensor, second: torch.Tensor) -> nn.Module:
    model = nn.Linear(2, 2)
    model.register_buffer("a", first)
    model.register_buffer("b", second)
    return model


def test_two_buffers_of_the_same_numbers_in_one_memory_are_filled() -> None:
    def build() -> nn.Module:
        memory = torch.arange(6.0)
        return two_buffers(memory, memory.detach())

    plan = ict.record(build).plan()
    model = build()
    model.a.zero_()
    ict.init_(model, plan, target="local")
    assert model.a.tolist() == model.b.tolist() == list(range(6))


def test_two_buffers_in_one_memory_are_called_buffers() -> None:
    memory = torch.zeros(6)
    model = two_buffers(memory, memory[2:])
    rules = [ict.rule("a", ic.zeros), ict.rule("b", ic.ones)]
    plan = ict.plan(model, rules)
    text = r"'b': storage: shares memory with 'a', which is another buffer, and the plan gives "
    with pytest.raises(ic.PlanError, match=text + r".*make them one buffer, or copies"):
        ict.init_(model, plan, target="local")


def test_an_expanded_parameter_is_refused() -> None:
    model = Holding(a=torch.zeros(1, 3).expand(4, 3))
    with pytest.raises(ic.PlanError, match="several elements at one address"):
        ict.init_(model, ict.plan(model, NORMAL), target="local")


@pytest.mark.parametrize("how", ["sparse", "nested"])
def test_tensors_without_strides_are_refused(how: str) -> None:
    rows = [torch.zeros(2), torch.zeros(3)]
    sparse = how == "sparse"
    tensor = (
        torch.eye(3).to_sparse()
        if sparse
        else torch.nested.nested_tensor(rows, layout=torch.jagged)
    )
    with pytest.raises(ic.PlanError, match=f"tensor 'w': shape: is .*{how}"):
        ict.plan(Holding(w=tensor), NORMAL)


def test_nothing_is_filled_on_meta() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="device is 'meta'"):
        ict.init_(model, ict.plan(model), target="local", device="meta")


def test_a_negated_view_has_its_values_and_not_its_memorys() -> None:
    model = Holding(w=torch.zeros(3, dtype=torch.complex64).conj().imag)
    assert model.w.is_neg()
    plan = ict.plan(model, NORMAL)
    ict.init_(model, plan, target="local")
    assert model.w.tolist() == ic.fetch(plan, target="local")["w"].tolist()
    assert ict.verify(model, plan, target="local").ok


@pytest.mark.parametrize("state", [{"w": None}, {"w": [1.0]}, {5: torch.zeros(2)}])
def test_a_state_dict_holds_tensors(state: Any) -> None:
    with pytest.raises(TypeError, match="the state dict has"):
        ict.verify(state, {"w": ic.zeros((2,))}, target="local")
