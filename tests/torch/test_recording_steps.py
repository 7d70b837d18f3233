"""Uniform draws of each element type: how often torch draws a bound, and how near it comes."""

from __future__ import annotations

import initclient as ic
import initclient.torch as ict
import pytest
import torch

from tests.torch.recordings import Holder

DRAWS = 1_000_000
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@pytest.mark.parametrize(
    ("dtype", "step"), [(torch.float32, 24), (torch.float64, 53), (torch.bfloat16, 24)]
)
def test_torch_draws_in_these_steps(dtype: torch.dtype, step: int) -> None:
    """What the laws of draws rest on: draws of 16 bits are those of float32, rounded."""
    torch.manual_seed(3)
    found = torch.rand(DRAWS, dtype=dtype).double() * 2.0**step
    assert torch.equal(found, found.round())
    assert not torch.equal(found / 2, (found / 2).round())


@HALVES
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 3.0), (1.0, 2.0)])
def test_a_note_says_how_often_torch_draws_the_bound(
    dtype: torch.dtype, low: float, high: float
) -> None:
    torch.manual_seed(3)
    made = torch.empty(DRAWS, dtype=dtype).uniform_(low, high)
    share = float((made == low).double().mean())

    def logarithm() -> torch.Tensor:
        return (torch.empty(64, dtype=dtype).uniform_(low, high) - low).log()

    (note,) = ict.record(Holder, logarithm).notes
    once_in = int(note.partition("torch draws 0 once in ")[2].split()[0].replace(",", ""))
    # Four standard deviations of the count.
    assert abs(share * once_in - 1) < 4 / (share * DRAWS) ** 0.5


def test_the_notes_of_wider_types_name_their_steps() -> None:
    for dtype, often in ((torch.float32, "2^24"), (torch.float64, "2^53")):
        (note,) = ict.record(Holder, lambda d=dtype: torch.rand(64, dtype=d).log()).notes
        assert f"torch draws 0 once in {often} numbers" in note


@HALVES
@pytest.mark.parametrize("function", ["log", "log1p", "reciprocal"])
def test_functions_of_one_minus_a_draw_reach_as_far_as_torch_s(
    dtype: torch.dtype, function: str
) -> None:
    """torch's rand comes no nearer to 1 than 2^-11 in float16, and 2^-8 in bfloat16."""

    def make(count: int) -> torch.Tensor:
        draw = torch.rand(count, dtype=dtype)
        if function == "log":
            return -(1 - draw).log()
        return -torch.log1p(-draw) if function == "log1p" else 1 / (1 - draw)

    torch.manual_seed(3)
    most = make(DRAWS).max()
    recording = ict.record(Holder, lambda: make(100_000))
    assert recording.notes == ()
    values = ic.fetch(recording.plan(seed=5), target="local")["weight"]
    assert values.astype("float64").max() == float(most)


def test_draws_of_float32_that_are_rounded_afterwards_keep_the_steps_of_float32() -> None:
    found = ict.record(Holder, lambda: (1 - torch.rand(64)).log().bfloat16())
    assert "log(clamp(uniform(a=0, b=1), a=2.98023e-08))" in found.explain("weight")
