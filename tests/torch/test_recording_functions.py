"""A recording has functions of draws, and repeated draws, in its plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn.functional import softplus

from tests.torch.recordings import CPU_AND_META, UNLIKELY, Holder, planned
from tests.torch.small_models import TRANSFORMERS

STEPS = (math.log(0.001), math.log(0.1))


def steps() -> torch.Tensor:
    """As Mamba draws them: uniform in the logarithm, through the inverse of softplus."""
    drawn = torch.exp(torch.rand(4000) * (STEPS[1] - STEPS[0]) + STEPS[0]).clamp(min=1e-4)
    return drawn + torch.log(-torch.expm1(-drawn))


FUNCTIONS: dict[str, Callable[[], torch.Tensor]] = {
    "log": lambda: torch.empty(4000).uniform_(1, 16).log(),
    "log from 0": lambda: torch.empty(4000).uniform_(0, 16).log(),
    "log2": lambda: torch.empty(4000).uniform_(1, 16).log2(),
    "log10": lambda: torch.empty(4000).uniform_(1, 16).log10(),
    "log1p": lambda: torch.rand(4000).log1p(),
    "exp": lambda: torch.randn(4000).exp(),
    "exp2": lambda: torch.randn(4000).exp2(),
    "expm1": lambda: torch.randn(4000).expm1(),
    "sqrt": lambda: torch.rand(4000).sqrt(),
    "rsqrt": lambda: torch.rand(4000).add(0.5).rsqrt(),
    "square": lambda: torch.randn(4000).square(),
    "power": lambda: torch.randn(4000) ** 2,
    "root": lambda: torch.rand(4000) ** 0.5,
    "reciprocal": lambda: 3 / (torch.rand(4000) + 1),
    "ratio": lambda: torch.tensor(3.0) / (torch.rand(4000) + 1),
    "power of ten": lambda: 10 ** torch.empty(4000).uniform_(-3, -1),
    "abs": lambda: torch.randn(4000).abs() * 2 - 1,
    "relu": lambda: torch.randn(4000).relu(),
    "clamp": lambda: torch.randn(4000).clamp(-1, 0.5),
    "softplus": lambda: softplus(torch.randn(4000)),
    "sharper softplus": lambda: softplus(torch.randn(4000), beta=2),
    "steps": steps,
    "another softplus^-1": lambda: torch.rand(4000).add(0.1).expm1().log(),
    "negative": lambda: -torch.empty(4000).uniform_(1, 16).log(),
    "in place": lambda: torch.empty(4000).uniform_(1, 16).log_().mul_(-0.5).add_(1),
    "indexed": lambda: torch.empty(2, 2000).uniform_(1, 16)[torch.tensor([1, 0])].log(),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_of_a_draw_has_the_function_s_distribution(kind: str) -> None:
    found, values = planned(FUNCTIONS[kind])
    assert found == planned(FUNCTIONS[kind], "cpu")[0]
    assert found.scheme == "apply"
    torch.manual_seed(3)
    wanted = FUNCTIONS[kind]().numpy()
    assert values.shape == wanted.shape
    assert stats.ks_2samp(values.ravel(), wanted.ravel()).pvalue > UNLIKELY


def test_arithmetic_around_functions_is_one_step_each() -> None:
    found, _ = planned(lambda: 4 - (torch.rand(40).exp() * 2 + 1) / 0.5)
    assert (found.function, found.a) == ("add", 2.0)
    ((_, part),) = found.parts or ()
    assert (part.function, part.a) == ("multiply", -4.0)
    ((_, inner),) = part.parts or ()
    assert inner.function == "exp"
    assert planned(lambda: torch.rand(40).exp() * 2 / 2)[0].function == "exp"


def test_mamba_s_steps_are_the_inverse_of_softplus() -> None:
    found, values = planned(steps)
    assert found.function == "inverse_softplus"
    made = np.log1p(np.exp(values.astype(np.float64)))
    assert 0.00099 < made.min() < made.max() < 0.101
    logarithms = (np.log(made) - STEPS[0]) / (STEPS[1] - STEPS[0])
    assert stats.kstest(logarithms, "uniform").pvalue > UNLIKELY


def test_a_logarithm_that_could_be_infinite_is_clamped_and_noted() -> None:
    recording = ict.record(Holder, lambda: torch.empty(64).uniform_(0, 16).log())
    (note,) = recording.notes
    assert "log of uniform(a=0, b=16), of which torch draws 0 once in 2^24 numbers" in note
    ((_, clamped),) = recording.plan().tensors["weight"].parts or ()
    assert (clamped.function, clamped.a) == ("clamp", 16 * 2.0**-25)
    assert ict.record(Holder, lambda: torch.rand(64).add(1).log()).notes == ()
    assert ict.record(Holder, lambda: 1 / (1 - torch.rand(64))).notes == ()
    assert "log(clamp(uniform(a=0, b=16), a=4.76837e-07))" in recording.explain("weight")


@given(b=st.floats(1e-30, 1e30))
@settings(deadline=None)
def test_the_clamp_changes_no_draw_of_a_plan(b: float) -> None:
    """The least uniform draw of section 4 of docs/stream-v1.md, for the word 0."""
    half = np.float32(b / 2)
    least = half + half * (np.float32(1 - 2**24) * np.float32(2.0**-24))
    assert least >= np.float32(b * 2.0**-25) > 0


def test_functions_of_parts_have_streams_of_their_own() -> None:
    def make() -> torch.Tensor:
        return torch.cat([torch.rand(300).add(1).log(), torch.randn(300).exp(), torch.zeros(5)])

    found, values = planned(make)
    assert [part.scheme for _, part in found.parts or ()] == ["apply", "apply", "zeros"]
    streams = [dict(part.parts or ())["x"].stream for _, part in found.parts or () if part.parts]
    assert streams == ["weight/0", "weight/1"]
    assert stats.kstest(np.exp(values[:300]) - 1, "uniform").pvalue > UNLIKELY
    assert stats.kstest(np.log(values[300:600]), "norm").pvalue > UNLIKELY


def test_tied_functions_of_a_draw_are_the_same_values() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.rand(8).add(1).log())
            self.two = self.one
            self.three = nn.Parameter(self.one.data)
            self.apart = nn.Parameter(torch.rand(8).add(1).log())

    values = ic.fetch(ict.record(Tied).plan(seed=2), target="local")
    assert (values["one"] == values["two"]).all()
    assert (values["one"] == values["three"]).all()
    assert not (values["one"] == values["apart"]).any()


REPEATED: dict[str, Callable[[], torch.Tensor]] = {
    "repeat": lambda: torch.randn(1, 1000).repeat(4, 1),
    "expand": lambda: torch.randn(1, 1000).expand(4, 1000).clone(),
    "columns": lambda: torch.randn(1000, 1).repeat(1, 3),
    "repeat of two rows": lambda: torch.randn(2, 500).repeat(3, 1),
    "repeat_interleave": lambda: torch.randn(2, 500).repeat_interleave(3, 0),
    "both": lambda: torch.randn(1, 500).repeat(3, 2),
    "written twice": lambda: torch.stack([x := torch.randn(1000) * 0.5, x]),
    "function": lambda: torch.rand(1, 1000).add(1).expand(4, 1000).log(),
    "parts": lambda: torch.cat([torch.randn(500), torch.randn(500) * 3]).repeat(2, 1),
}


@CPU_AND_META
@pytest.mark.parametrize("kind", REPEATED)
def test_repeated_draws_are_repeated_in_the_plan(kind: str, device: str) -> None:
    _, values = planned(REPEATED[kind], device)
    torch.manual_seed(3)
    wanted = REPEATED[kind]().numpy()

    def pattern(array: Any) -> Any:
        # For each element, the first one of its value.
        _, first, places = np.unique(array, return_index=True, return_inverse=True)
        return first[places].reshape(array.shape)

    assert np.array_equal(pattern(values), pattern(wanted))
    assert stats.ks_2samp(np.unique(values), np.unique(wanted)).pvalue > UNLIKELY


FAMILIES = ("mamba", "mamba2", "falcon_mamba", "jamba", "qwen3_next", "wav2vec2")


@pytest.mark.parametrize("kind", FAMILIES)
def test_these_families_are_whole_plans(kind: str) -> None:
    recording = ict.record(TRANSFORMERS[kind])
    plan = recording.plan(seed=3)
    assert plan.tensors.keys() == recording.model.state_dict().keys()
    texts = " ".join(recording.explain(name) for name in plan)
    has = {
        "mamba": "inverse_softplus(",
        "mamba2": "inverse_softplus(",
        "falcon_mamba": "inverse_softplus(",
        "jamba": "values(0, 0.693147, 1.09861",
        "qwen3_next": "log(uniform(",
        "wav2vec2": "norm of encoder.pos_conv_embed",
    }
    assert has[kind] in texts
