"""Arithmetic on draws: what has a law has the right one, and all else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn

from tests.torch.recordings import CPU_AND_META, Holder, refusal


def test_a_draw_that_is_repeated_after_arithmetic_is_no_draw_of_each_element() -> None:
    twice = "one draw in several places"
    assert twice in refusal(lambda: torch.cat([x := torch.randn(1, 32), 2 * x]))
    assert twice in refusal(lambda: torch.cat([x := torch.rand(2, 3), x.add(1).log()]))
    assert twice in refusal(lambda: torch.randn(32)[torch.tensor([0, 1, 1, 2, 0, 3])])
    assert "combines two draws" in refusal(lambda: (x := torch.randn(3)) + x)


def test_a_censored_normal_is_no_truncated_one() -> None:
    found = ict.record(Holder, lambda: torch.randn(800).clamp_(-1, 1)).plan(seed=1)
    assert found.tensors["weight"].scheme == "apply"
    values = ic.fetch(found, target="local")["weight"]
    assert 0.25 < (abs(values) == 1).mean() < 0.4


def test_functions_that_no_plan_computes_are_named_with_their_line() -> None:
    assert "no scheme has sin(normal(mean=0, std=1))" in refusal(lambda: torch.randn(8).sin())
    message = refusal(lambda: torch.rand(8).sub(1).log())
    assert "no scheme has log(uniform(a=-1, b=0))" in message
    assert "takes values above 0" in message
    assert "eye(gain=1)" in refusal(lambda: nn.init.eye_(torch.empty(3, 3)).exp())


@CPU_AND_META
def test_draws_without_a_scheme_are_named_and_others_beside_them_are_right(device: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coins = nn.Parameter(torch.bernoulli(torch.full((9,), 0.5)))
            self.wide = nn.Parameter(torch.empty(9).cauchy_())
            self.weight = nn.Parameter(torch.randn(9))

    recording = ict.record(Mixed, device=device)
    assert list(recording.refused) == ["coins", "wide"]
    assert "bernoulli" in recording.refused["coins"]
    assert "cauchy" in recording.refused["wide"]
    rules = [ict.rule("coins", ic.zeros), ict.rule("wide", ic.zeros)]
    assert recording.plan(rules=rules).tensors["weight"].scheme == "normal"


@pytest.mark.parametrize(
    "change",
    [
        lambda w: torch.div(w * 8, 2, rounding_mode="floor"),
        lambda w: w.index_put((torch.tensor([0, 0]),), torch.ones(2, 4), accumulate=True),
    ],
    ids=["rounded division", "accumulated"],
)
def test_operations_that_look_like_others_are_no_law(change: Any) -> None:
    assert "the recording found" in refusal(lambda: change(torch.randn(3, 4)))


def written(write: Callable[[torch.Tensor], Any]) -> Callable[[], torch.Tensor]:
    """Makes four normal draws, and writes to them."""

    def make() -> torch.Tensor:
        drawn = torch.randn(4)
        with torch.no_grad():
            made = write(drawn)
        return made if isinstance(made, torch.Tensor) else drawn

    return make


AT_ONE = torch.tensor([1])

IS_ONE = torch.tensor([False, True, False, False])


@CPU_AND_META
@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.scatter_(0, AT_ONE, 3),
        lambda x: x.masked_fill_(IS_ONE, torch.tensor(3)),
        lambda x: x.masked_fill_(IS_ONE, 3),
        lambda x: x.index_fill_(0, AT_ONE, 3),
        lambda x: torch.where(IS_ONE, torch.full((4,), 3), x),
        lambda x: torch.where(IS_ONE, 3, x),
        lambda x: torch.cat([x[:1], torch.tensor([3]), x[2:]]),
    ],
)
def test_whole_numbers_beside_draws_are_numbers(
    write: Callable[[torch.Tensor], Any], device: str
) -> None:
    """The numbers of elements, by which the recording follows them, are whole numbers too."""
    plan = ict.record(Holder, written(write), device=device).plan(seed=3)
    values = ic.fetch(plan)["weight"]
    assert values[1] == 3
    assert len(set(values.tolist())) == 4
    assert abs(values[[0, 2, 3]]).max() < 6


@CPU_AND_META
@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.index_put_((AT_ONE,), torch.ones(1), accumulate=True),
        lambda x: torch.ones(4).index_put_((AT_ONE,), x[:1], accumulate=True),
        lambda x: x.scatter_(0, AT_ONE, 2.0, reduce="multiply"),
        lambda x: x.scatter_(0, AT_ONE, torch.ones(1), reduce="add"),
        lambda x: torch.div(x, 2, rounding_mode="floor"),
        lambda x: torch.div(x, torch.arange(1.0, 5.0), rounding_mode="trunc"),
        lambda x: torch.div(2, x, rounding_mode="floor"),
    ],
)
@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
def test_variants_of_an_operation_are_not_taken_for_the_plain_one(
    write: Callable[[torch.Tensor], Any], device: str
) -> None:
    """What accumulates or rounds has another law than what writes or divides."""
    assert "give it a rule" in refusal(written(write), device)


@CPU_AND_META
@pytest.mark.parametrize(
    ("limits", "a", "b"),
    [({}, -1, 1), ({"max_val": 0.5}, -1, 0.5), ({"min_val": -2.0, "max_val": 1.0}, -2, 1)],
)
def test_limits_that_torch_has_by_default_count(
    limits: dict[str, float], a: float, b: float, device: str
) -> None:
    """torch does not hand on arguments that equal their defaults."""
    make = written(lambda x: nn.functional.hardtanh(x, **limits))
    found = ict.record(Holder, make, device=device).plan().tensors["weight"]
    assert (found.function, found.a, found.b) == ("clamp", a, b)


def test_a_loop_of_many_steps_is_refused_by_name() -> None:
    """A chain of a thousand operations is no error of Python's stack."""

    def steps(x: torch.Tensor) -> None:
        for _ in range(1000):
            x.mul_(0.999).add_(0.001)

    assert "2000 operations made it" in refusal(written(steps))


def test_complex_constants_and_numbers_that_no_plan_holds_are_named() -> None:
    """Each refusal names its tensor."""
    assert "complex" in refusal(lambda: torch.zeros(2, dtype=torch.complex64))

    class Numbers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2) * float("nan"))
            self.register_buffer("count", torch.tensor([2**60 + 1]))

    with pytest.raises(ic.PlanError) as caught:
        ict.record(Numbers).plan()
    assert {one.tensor for one in caught.value.violations} == {"weight", "count"}
