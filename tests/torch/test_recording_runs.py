"""A run of code that is recorded: what it sees, what it may return, and what it leaves behind."""

from __future__ import annotations

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import init as torch_init
from torch.nn.init import trunc_normal_  # a reference from before any recording

from tests.torch.recordings import Holder, recording_error


def test_code_that_asks_for_the_device_sees_the_cpu() -> None:
    """Otherwise models that skip their initialization on meta would be recorded without it."""

    def make() -> torch.Tensor:
        made = torch.empty(4, device="cuda")
        if made.is_meta or made.device.type != "cpu":
            return made.fill_(7)
        return made.normal_(std=0.5)

    plan = ict.record(Holder, make).plan()
    assert (plan.tensors["weight"].scheme, plan.tensors["weight"].std) == ("normal", 0.5)


def test_the_name_of_a_tensor_s_type_is_that_of_the_cpu() -> None:
    def make() -> torch.Tensor:
        made = torch.empty(4)
        return made.normal_() if made.type() == "torch.FloatTensor" else made.fill_(7)

    assert ict.record(Holder, make).plan()["weight"].scheme == "normal"
    halves = ict.record(Holder, lambda: torch.ones(4).type(torch.float16)).plan()
    assert halves["weight"].dtype == "F16"


def test_code_that_asks_for_an_address_is_recorded_with_memory_alone() -> None:
    def make() -> torch.Tensor:
        made = torch.empty(4)
        return made.normal_() if made.data_ptr() else made.fill_(7)

    message = recording_error(lambda: Holder(make))
    assert "address of a tensor's memory at " in message
    assert "test_recording_runs.py:" in message
    assert "device='cpu'" in message
    assert ict.record(Holder, make, device="cpu").plan()["weight"].scheme == "normal"
    assert (
        torch.empty(0).data_ptr()
        == ict.record(
            Holder, lambda: torch.zeros(torch.empty(0).data_ptr() + 1)
        ).model.weight.numel()
        - 1
    )


def test_layers_that_code_makes_on_meta_itself_are_drawn_after_it_gives_them_memory() -> None:
    def build() -> nn.Module:
        with torch.device("meta"):
            layer = nn.Linear(2, 2)
        layer.to_empty(device="cpu")
        nn.init.ones_(layer.weight)
        nn.init.normal_(layer.bias)
        return layer

    for device in ("meta", "cpu"):
        plan = ict.record(build, device=device).plan()
        assert [plan[name].scheme for name in ("weight", "bias")] == ["ones", "normal"]


def test_initializers_are_seen_through_references_of_any_kind() -> None:
    saved = torch_init.orthogonal_

    def make() -> torch.Tensor:
        return torch.cat([trunc_normal_(torch.empty(3, 4)), saved(torch.empty(3, 4))])

    parts = ict.record(Holder, make).plan().tensors["weight"].parts or ()
    assert [part.scheme for _, part in parts] == ["trunc_normal", "orthogonal"]


INITIALIZERS = ("_no_grad_trunc_normal_", "orthogonal_", "sparse_", "eye_", "dirac_")


def codes() -> list[Any]:
    return [getattr(torch_init, name).__code__ for name in INITIALIZERS]


def test_changes_of_the_process_are_undone_also_after_an_error() -> None:
    before = codes()

    def build() -> nn.Module:
        assert codes() != before
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        ict.record(build)
    assert codes() == before
    torch.manual_seed(3)
    drawn = torch_init.orthogonal_(torch.empty(4, 4))
    assert torch.allclose(drawn @ drawn.T, torch.eye(4), atol=1e-5)


def test_other_threads_draw_as_always_while_one_records() -> None:
    torch.manual_seed(3)
    expected = torch_init.trunc_normal_(torch.empty(50))
    found: list[torch.Tensor] = []

    def draw() -> None:
        torch.manual_seed(3)
        found.append(torch_init.trunc_normal_(torch.empty(50)))

    def build() -> nn.Module:
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
        return nn.Linear(2, 2)

    ict.record(build)
    assert len(found) == 2
    assert all(torch.equal(one, expected) for one in found)


def test_two_threads_record_one_after_the_other() -> None:
    before = codes()
    states = random.getstate(), str(np.random.get_state())
    second_comes, second_builds = threading.Event(), threading.Event()
    overlaps: list[bool] = []

    def first() -> nn.Module:
        assert second_comes.wait(60)
        # Time enough for the other thread, if nothing held it.
        overlaps.append(second_builds.wait(1))
        random.random()
        return nn.Linear(3, 3)

    def second() -> nn.Module:
        second_builds.set()
        np.random.rand()
        return nn.Linear(3, 3)

    def begin_second() -> ict.Recording:
        second_comes.set()
        return ict.record(second)

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(ict.record, first), threads.submit(begin_second)]
        recordings = [future.result(120) for future in futures]
    # The code ran twice in one thread before it began in the other one.
    assert overlaps == [False, False]
    assert second_builds.is_set()
    plan = ict.record(nn.Linear, 3, 3).plan()
    assert [recording.plan() for recording in recordings] == [plan, plan]
    notes = [" ".join(recording.notes) for recording in recordings]
    assert ["numpy" in one for one in notes] == [False, True]
    assert ["Python's random" in one for one in notes] == [True, False]
    assert (random.getstate(), str(np.random.get_state())) == states
    assert codes() == before


def test_a_recording_within_a_recording_is_refused() -> None:
    def build() -> nn.Module:
        return ict.record(nn.Linear, 2, 2).model

    assert "a recording runs in this thread already" in recording_error(build)


def test_a_model_that_is_built_already_shows_the_line_that_records_it() -> None:
    with pytest.raises(ic.PlanError, match=r"ict\.record\(Linear, \.\.\.\)"):
        ict.record(nn.Linear(2, 2))


def test_methods_of_a_model_are_recorded_for_that_model() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2, bias=False)

        def init_weights(self) -> None:
            nn.init.normal_(self.inner.weight, std=0.5)

    def reset(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    with torch.device("meta"):
        model = Own()
    recording = ict.record(model.init_weights)
    assert recording.model is model
    assert recording.plan().tensors["inner.weight"].std == 0.5
    assert ict.record(model.apply, reset).plan().tensors["inner.weight"].scheme == "uniform"


def test_rules_come_before_what_was_recorded() -> None:
    recording = ict.record(Holder, lambda: torch.empty(4))
    plan = recording.plan(seed=2, rules=[ict.rule("weight", ic.normal, std=0.5)])
    assert plan.tensors["weight"] == ic.normal((4,), std=0.5)
    assert ict.plan(recording, [ict.rule("weight", ic.ones)]).tensors["weight"].scheme == "ones"


class Counted(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(float(count)).log1p())
        self.register_buffer("mask", torch.arange(count))


def test_computed_values_are_numbers_in_the_plan() -> None:
    plan = ict.record(Counted, 1000).plan()
    values = ic.fetch(plan, target="local")
    model = Counted(1000)
    assert (values["weight"] == model.weight.detach().numpy()).all()
    assert (values["mask"] == model.mask.numpy()).all()
    rows = ict.record(Holder, lambda: torch.arange(1, 5).float().log().repeat(3, 1)).plan()
    assert rows.tensors["weight"].scheme == "broadcast_to"
    wanted = np.log(np.arange(1, 5, dtype=np.float32))
    assert ic.fetch(rows, target="local")["weight"].tolist() == [wanted.tolist()] * 3


def test_large_computed_tensors_of_a_few_values_are_parts_of_constants() -> None:
    def blocks() -> torch.Tensor:
        made = torch.zeros(300, 300)
        made[:100, :200] = 1.5
        made[200:, 100:] = -2.0
        return made

    plan = ict.record(Holder, blocks).plan()
    assert plan.tensors["weight"].scheme == "concatenate"
    assert (ic.fetch(plan, target="local")["weight"] == blocks().numpy()).all()


def test_computed_values_are_handed_to_init_() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(70_000.0).log1p())
            self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
            self.register_buffer("places", torch.arange(4), persistent=False)

    recording = ict.record(Computed)
    with pytest.raises(ic.PlanError, match=r"70,000 numbers; a plan .* values=recording\.values"):
        recording.plan()
    with pytest.warns(ic.PlanWarning, match="buffer mask"):
        plan = recording.plan(rules=[ict.rule("weight", ict.given)])
    model = recording.model
    ict.init_(model, plan, device="cpu", values=recording.values)
    assert torch.equal(model.weight, Computed().weight)
    assert torch.equal(model.mask, Computed().mask)
    assert torch.equal(model.places, torch.arange(4))


def test_a_function_that_makes_no_model_is_refused() -> None:
    assert "returned NoneType; let it return the model" in recording_error(lambda: None)


def test_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="device is 'cuda'; give 'meta' or 'cpu'"):
        ict.record(nn.Linear, 2, 2, device="cuda")


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(KeyError, match="did you mean 'weight'"):
        ict.record(nn.Linear, 2, 2).explain("wieght")


class DrawsFromBeta(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.distributions.Beta(2.0, 1.0).sample((4,)))


def test_an_operation_that_meta_lacks_is_an_error_with_the_line_and_the_way_out() -> None:
    with pytest.raises(ic.PlanError) as caught:
        ict.record(DrawsFromBeta)
    message = str(caught.value)
    assert "torch's _sample_dirichlet, at " in message
    assert "test_recording_runs.py:" in message
    assert "(DrawsFromBeta.__init__), cannot run on the meta device" in message
    assert "record(..., device='cpu')" in message
    assert isinstance(caught.value.__cause__, NotImplementedError)
    recording = ict.record(DrawsFromBeta, device="cpu")
    assert recording.plan(rules=[ict.rule("w", ic.uniform)])["w"].scheme == "uniform"


def test_code_may_go_on_without_an_operation_that_meta_lacks() -> None:
    def build() -> nn.Module:
        with contextlib.suppress(NotImplementedError):
            torch.randn(8).nonzero()
        return nn.Linear(2, 2)

    assert set(ict.record(build).plan().tensors) == {"weight", "bias"}


def test_an_error_of_the_code_itself_stays_as_it_is() -> None:
    def build() -> nn.Module:
        with contextlib.suppress(NotImplementedError):
            torch.randn(8).nonzero()
        raise NotImplementedError("not for this size")

    with pytest.raises(NotImplementedError, match="not for this size"):
        ict.record(build)
