"""Tensors that share memory on meta share it on the device, or are refused as off meta."""

from __future__ import annotations

from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.testing._internal.distributed.fake_pg import FakeStore

NORMAL = [ict.rule("*", ic.normal)]


class Tied(nn.Module):
    """A head whose weight is a parameter of its own in the embedding's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 6)
        self.head = nn.Linear(6, 5, bias=False)
        self.head.weight = nn.Parameter(self.embed.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.embed(ids))
        return out


class TwoNorms(nn.Module):
    """Two norms in one memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LayerNorm(4), nn.LayerNorm(4)
        self.b.weight = nn.Parameter(self.a.weight)
        self.b.bias = nn.Parameter(self.a.bias)


class Transposed(nn.Module):
    """A decoder whose weight is the encoder's, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.dec.weight = nn.Parameter(self.enc.weight.t())


class Holding(nn.Module):
    """Parameters of any memory."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in zip("abc", tensors, strict=False):
            setattr(self, name, nn.Parameter(tensor))


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def refusal(model: nn.Module, plan: ic.Plan) -> str:
    with pytest.raises(ic.PlanError) as caught:
        ict.init_(model, plan, "local", device="cpu")
    return str(caught.value)


def test_a_recorded_tie_of_two_parameters_lasts_through_training() -> None:
    recording = ict.record(Tied)
    model, plan = recording.model, recording.plan(seed=7)
    ict.init_(model, plan, "local", device="cpu")
    embed, head = model.get_submodule("embed").weight, model.get_submodule("head").weight
    assert embed is not head
    assert embed.data_ptr() == head.data_ptr()
    assert ict.verify(model, plan, "local").ok
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.arange(5)).square().sum().backward()
    step.step()
    assert torch.equal(embed, head)


def test_two_norms_in_one_memory_stay_in_one_memory() -> None:
    model = on_meta(TwoNorms)
    ict.init_(model, ict.plan(model), "local", device="cpu")
    a, b = model.get_submodule("a"), model.get_submodule("b")
    assert a.weight.data_ptr() == b.weight.data_ptr() != a.bias.data_ptr() == b.bias.data_ptr()
    assert torch.equal(b.weight, torch.ones(4))
    assert not b.bias.any()


@pytest.mark.parametrize("build", [Tied, Transposed])
def test_a_tie_to_which_the_plan_gives_two_draws_is_refused_as_off_meta(
    build: Callable[[], nn.Module],
) -> None:
    plan = ict.plan(build(), NORMAL)
    meta = on_meta(build)
    text = refusal(meta, plan)
    assert "shares memory with" in text
    assert text == refusal(build(), plan)
    assert all(parameter.is_meta for parameter in meta.parameters())


def test_a_recorded_transposed_tie_with_a_rule_of_its_own_is_refused_by_both_names() -> None:
    recording = ict.record(Transposed)
    plan = recording.plan(rules=[ict.rule("dec.weight", ic.normal, std=0.02)])
    assert "'dec.weight': storage: shares memory with 'enc.weight'" in refusal(
        recording.model, plan
    )


OVERLAPPING = {
    "a part": lambda memory: (memory[:10], memory[5:15]),
    "within": lambda memory: (memory, memory[5:6]),
    "another shape": lambda memory: (memory[:10], memory[:10].view(2, 5)),
    "a column": lambda memory: (memory.view(4, 5), memory.view(4, 5)[:, 0]),
    "expanded": lambda memory: (memory[:3].expand(4, 3), memory[:3].expand(4, 3)),
}


@pytest.mark.parametrize("how", OVERLAPPING)
def test_parameters_that_overlap_on_meta_are_refused(how: str) -> None:
    def build() -> nn.Module:
        return Holding(*OVERLAPPING[how](torch.zeros(20)))

    plan = ict.plan(build(), NORMAL)
    assert refusal(on_meta(build), plan) == refusal(build(), plan)


def test_parameters_side_by_side_keep_their_places_strides_and_values() -> None:
    def build() -> nn.Module:
        memory = torch.zeros(20)
        columns = memory[10:].view(2, 5)
        return Holding(memory[:10], columns[:, :2], columns[:, 2:].t())

    model, real = on_meta(build), build()
    plan = ict.plan(real, NORMAL)
    for each in (model, real):
        ict.init_(each, plan, "local", device="cpu")
    a, b, c = model.parameters()
    assert [p.storage_offset() for p in (a, b, c)] == [0, 10, 12]
    assert c.stride() == (1, 5)
    assert a.untyped_storage().data_ptr() == c.untyped_storage().data_ptr()
    for ours, theirs in zip(model.parameters(), real.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_view_of_a_large_memory_alone_gets_memory_of_its_own_size() -> None:
    with torch.device("meta"):
        model = Holding(torch.empty(1000, 1000)[0])
    ict.init_(model, ict.plan(model, NORMAL), "local", device="cpu")
    assert next(model.parameters()).untyped_storage().nbytes() == 4000


def test_parameters_without_elements_share_nothing() -> None:
    with torch.device("meta"):
        memory = torch.empty(3)
        model = Holding(memory[:0], memory[3:], torch.empty(0, 4))
    ict.init_(model, ict.plan(model, NORMAL), "local", device="cpu")
    assert [tuple(p.shape) for p in model.parameters()] == [(0,), (0,), (0, 4)]
    assert not any(p.is_meta for p in model.parameters())


class Viewing(nn.Module):
    """Buffers in the memory of a parameter and of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.register_buffer("turned", self.weight.detach().t(), persistent=False)
        self.register_buffer("steps", torch.arange(6.0))
        self.register_buffer("same", self.get_buffer("steps").detach())


def test_a_buffer_that_is_a_view_of_a_parameter_has_the_parameters_values() -> None:
    recording = ict.record(Viewing)
    model = recording.model
    plan = recording.plan(seed=7, rules=[ict.rule("weight", ic.normal)])
    assert ict.init_(model, plan, "local", device="cpu").kept == ("turned",)
    weight, turned = model.get_parameter("weight"), model.get_buffer("turned")
    assert torch.equal(turned, weight.t())
    assert turned.data_ptr() == weight.data_ptr()
    model.get_buffer("steps").add_(1)
    assert model.get_buffer("same").tolist() == [1, 2, 3, 4, 5, 6]


def test_a_buffer_on_meta_that_reaches_past_a_parameter_has_no_values() -> None:
    with torch.device("meta"):
        memory = torch.empty(6)
        model = Holding(memory[:4])
        model.register_buffer("all", memory, persistent=False)
    assert "'all': values: this buffer is not in the plan" in refusal(
        model, ict.plan(model, NORMAL)
    )


def test_an_expanded_buffer_that_is_alone_in_its_memory_gets_its_values() -> None:
    def build() -> nn.Module:
        model = nn.Linear(2, 2)
        model.register_buffer("steps", torch.arange(3.0).expand(4, 3))
        return model

    recording = ict.record(build)
    ict.init_(recording.model, recording, seed=7, device="cpu")
    assert recording.model.get_buffer("steps").tolist() == [[0, 1, 2]] * 4


def test_dtensors_in_one_memory_stay_in_one_memory() -> None:
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (2,))
        local = torch.empty(4, 3, device="meta")
        model = Holding(*(DTensor.from_local(local, mesh, [Replicate()]) for _ in range(2)))
        one = ic.normal((4, 3), stream="a")
        plan = ic.Plan({"a": one, "b": one}, 7)
        ict.init_(model, plan, "local", device="cpu", agree=False)
        a, b = model.parameters()
        assert isinstance(a, DTensor)
        assert isinstance(b, DTensor)
        assert a.to_local().data_ptr() == b.to_local().data_ptr() != 0
        wanted = torch.from_numpy(ic.fetch(plan, target="local")["a"])
        assert torch.equal(b.to_local(), wanted)
    finally:
        dist.destroy_process_group()
