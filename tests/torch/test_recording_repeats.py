"""Draws whose values a plan would not have: rounded on the way, or drawn from one state twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(params=["meta", "cpu"])
def device(request: pytest.FixtureRequest) -> Literal["meta", "cpu"]:
    found: Literal["meta", "cpu"] = request.param
    return found


class Holds(nn.Module):
    """Parameters with these values."""

    def __init__(self, make: Callable[[], dict[str, torch.Tensor]]) -> None:
        super().__init__()
        for name, values in make().items():
            self.register_parameter(name, nn.Parameter(values))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 3).bfloat16().float(),
        lambda: torch.randn(4, 3).half() * torch.tensor(2.0) + torch.zeros(4, 3),
        lambda: torch.empty(4, 3).copy_(torch.randn(4, 3, dtype=torch.bfloat16)),
        lambda: torch.randn(4, 3).to(torch.float8_e4m3fn).to(torch.bfloat16),
    ],
)
def test_draws_rounded_to_another_element_type_are_refused(
    make: Callable[[], torch.Tensor], device: Literal["meta", "cpu"]
) -> None:
    recording = ict.record(lambda: Holds(lambda: {"w": make()}), device=device)
    with pytest.raises(ic.PlanError, match=r"'w'.*test_recording_repeats.*were rounded to "):
        recording.plan()


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda: torch.randn(4, 3).bfloat16(), "BF16"),
        (lambda: torch.randn(4, 3).double().float(), "F32"),
        (lambda: torch.randn(4, 3).double(), "F64"),
    ],
)
def test_the_last_element_type_is_the_plans(
    make: Callable[[], torch.Tensor], dtype: str, device: Literal["meta", "cpu"]
) -> None:
    plan = ict.record(lambda: Holds(lambda: {"w": make()}), device=device).plan()
    assert (plan["w"].scheme, plan["w"].dtype) == ("normal", dtype)


def forked() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        a = torch.randn(4, 3)
    return {"a": a, "b": torch.randn(4, 3), "c": torch.randn(4, 3)}


def put_back() -> dict[str, torch.Tensor]:
    state = torch.get_rng_state()
    a = torch.randn(4, 3)
    torch.set_rng_state(state)
    return {"a": a, "b": torch.randn(4, 3), "c": torch.randn(4, 3)}


def seeded_twice() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    a = torch.randn(4, 3)
    torch.manual_seed(3)
    return {"a": a, "b": torch.randn(4, 3), "c": torch.randn(4, 3)}


@pytest.mark.parametrize("make", [forked, put_back, seeded_twice])
def test_equal_draws_from_one_state_have_equal_values(
    make: Callable[[], dict[str, torch.Tensor]], device: Literal["meta", "cpu"]
) -> None:
    made = make()
    assert torch.equal(made["a"], made["b"])
    values = ic.fetch(ict.record(lambda: Holds(make), device=device).plan(), target="local")
    assert np.array_equal(values["a"], values["b"])
    assert not np.array_equal(values["a"], values["c"])


def in_another_shape() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    a = torch.randn(4, 3)
    torch.manual_seed(3)
    return {"a": a, "b": torch.randn(3, 4)}


def by_another_law() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    a = torch.randn(4, 3)
    torch.manual_seed(3)
    return {"a": a, "b": torch.rand(4, 3)}


def scaled() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    a = torch.randn(4, 3)
    torch.manual_seed(3)
    return {"a": a, "b": torch.randn(4, 3) * 2}


@pytest.mark.parametrize("make", [in_another_shape, by_another_law, scaled])
def test_other_draws_from_one_state_are_refused(
    make: Callable[[], dict[str, torch.Tensor]], device: Literal["meta", "cpu"]
) -> None:
    recording = ict.record(lambda: Holds(make), device=device)
    with pytest.raises(ic.PlanError, match=r"'b'.*put torch's generator back to an earlier state"):
        recording.plan()


def test_other_seeds_are_other_draws(device: Literal["meta", "cpu"]) -> None:
    def make() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        a = torch.randn(4, 3)
        torch.manual_seed(4)
        return {"a": a, "b": torch.randn(4, 3)}

    plan = ict.record(lambda: Holds(make), device=device).plan()
    assert plan["b"].stream is None


def test_a_larger_draw_from_a_seed_repeats_the_later_draws_too(
    device: Literal["meta", "cpu"],
) -> None:
    """torch draws `b` and the end of `larger` from the same numbers."""

    def make() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        torch.rand(4)
        b = torch.rand(4)
        torch.manual_seed(3)
        return {"b": b, "larger": torch.rand(8)}

    made = make()
    assert torch.equal(made["b"], made["larger"][4:])
    recording = ict.record(lambda: Holds(make), device=device)
    with pytest.raises(ic.PlanError, match=r"'larger'.*it may repeat numbers of b, and a plan"):
        recording.plan()
    rules = [ict.rule("larger", ic.uniform)]
    assert recording.plan(rules=rules)["b"].scheme == "uniform"


def test_draws_after_other_draws_from_one_seed_may_repeat_numbers(
    device: Literal["meta", "cpu"],
) -> None:
    def make() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        a = torch.rand(8)
        torch.manual_seed(3)
        torch.rand(2)
        b = torch.rand(4)
        torch.manual_seed(4)
        return {"a": a, "b": b, "c": torch.rand(4)}

    made = make()
    assert torch.equal(made["b"], made["a"][2:6])
    recording = ict.record(lambda: Holds(make), device=device)
    assert list(recording.refused) == ["b"]
    assert "it may repeat numbers of a" in recording.refused["b"]


def test_two_ways_from_one_seed_are_not_joined_in_one_tensor(
    device: Literal["meta", "cpu"],
) -> None:
    def make() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        torch.rand(2)
        a = torch.rand(4)
        torch.manual_seed(3)
        return {"w": torch.cat([a, torch.rand(8)])}

    recording = ict.record(lambda: Holds(make), device=device)
    assert "it may repeat numbers of its own" in recording.refused["w"]


def test_a_draw_that_the_model_does_not_keep_refuses_nothing(
    device: Literal["meta", "cpu"],
) -> None:
    """Code that looks at a few numbers, and puts the generator back, as fork_rng does."""

    def make() -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.rand(2)
        return {"a": torch.rand(8), "b": torch.randn(4, 3)}

    recording = ict.record(lambda: Holds(make), device=device)
    assert not recording.refused
    assert [recording.plan()[name].stream for name in "ab"] == [None, None]
