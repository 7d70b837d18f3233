"""A recording has computed values, functions of draws, repeated draws and norms in its plan."""

from __future__ import annotations

import copy
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
from initclient._laws import folded
from initclient.torch._record.computed import kinds_of
from scipy import stats
from torch import nn
from torch.nn.functional import softplus

from tests.torch.small_models import TRANSFORMERS

CPU_AND_META = pytest.mark.parametrize("device", ["meta", "cpu"])

# One KS test of a fixed seed that passes goes on passing.
UNLIKELY = 1e-6


class Holder(nn.Module):
    """One parameter, or buffer, that a function makes."""

    def __init__(self, make: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        made = make()
        if made.is_floating_point():
            self.weight = nn.Parameter(made)
        else:
            self.register_buffer("weight", made)


def planned(make: Callable[[], torch.Tensor], device: str = "meta") -> tuple[ic.Tensor, Any]:
    """The tensor of a recorded plan, and its values."""
    plan = ict.record(Holder, make, device=device).plan(seed=5)
    return plan.tensors["weight"], ic.fetch(plan, target="local")["weight"]


def sinusoids() -> torch.Tensor:
    angles = torch.arange(20)[:, None] * torch.exp(torch.arange(8) * -(math.log(1e4) / 8))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def relative_positions() -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    places = torch.stack([rows, columns]).flatten(1)
    apart = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0) + 3
    return (apart * torch.tensor([7, 1])).sum(-1)


COMPUTED = {
    "inverse frequencies": lambda: 1.0 / 10000 ** (torch.arange(0, 64, 2).float() / 64),
    "sinusoids": sinusoids,
    "relative positions": relative_positions,
    "a causal mask": lambda: torch.ones(12, 12, dtype=torch.bool).tril(),
    "bytes": lambda: torch.arange(200, dtype=torch.uint8),
    "steps": lambda: torch.linspace(0, 1, 30),
    "negative zeros": lambda: torch.tensor([0.0, -0.0, 3.0]) * 0.1,
    "half precision": lambda: torch.linspace(0, 1, 30, dtype=torch.bfloat16).exp(),
    "doubles": lambda: torch.linspace(0, 1, 30, dtype=torch.float64).exp(),
}


@CPU_AND_META
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_values_are_in_the_plan_to_the_bit(kind: str, device: str) -> None:
    wanted = COMPUTED[kind]()
    found, values = planned(COMPUTED[kind], device)
    assert found.scheme == "literal"
    assert values.tobytes() == wanted.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        # S4D's real initialization: log(1), log(2), ..., log(16) in each row.
        (lambda: torch.arange(1, 17.0).log().repeat(512, 1), 16),
        (lambda: torch.arange(1, 17.0).log()[None].expand(512, 16).contiguous(), 16),
        (lambda: torch.arange(512.0)[:, None].expand(512, 16).contiguous(), 512),
        # More than a plan may hold, but for what is repeated within an axis.
        (lambda: torch.arange(300.0).sqrt().repeat(400), 300),
        (lambda: torch.arange(300.0).sqrt().repeat_interleave(400), 300),
        (lambda: torch.arange(300).repeat(4, 2).repeat_interleave(100, 0), 600),
    ],
)
def test_repeated_values_are_in_the_plan_once(
    make: Callable[[], torch.Tensor], numbers: int
) -> None:
    found, values = planned(make)
    while found.parts:
        ((_, found),) = found.parts
    assert found.scheme == "literal"
    assert math.prod(found.shape) == numbers
    assert np.array_equal(values, make().numpy())


def test_values_beyond_the_limit_are_refused_with_their_line() -> None:
    recording = ict.record(Holder, lambda: torch.arange(65_537.0).sqrt())
    with pytest.raises(ic.PlanError) as caught:
        recording.plan()
    (violation,) = caught.value.violations
    assert violation.tensor == "weight"
    for text in ("sqrt(arange(", "test_recording_computed.py:", "65,537 numbers", "65,536"):
        assert text in violation.message
    assert torch.equal(recording.values["weight"], torch.arange(65_537.0).sqrt())
    found, values = planned(lambda: torch.arange(65_536.0).sqrt())
    assert found.scheme == "literal"
    assert np.array_equal(values, torch.arange(65_536.0).sqrt().numpy())


@given(
    part=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    columns=st.integers(1, 3),
    runs=st.integers(1, 3),
    tiles=st.integers(1, 3),
)
@settings(deadline=None)
def test_what_is_folded_unfolds_to_the_whole(
    part: list[int], columns: int, runs: int, tiles: int
) -> None:
    small = np.array(part[: len(part) // columns * columns] or [0], dtype=np.int64)
    small = small.reshape(-1, columns if small.size % columns == 0 else 1)
    whole = np.tile(np.repeat(small, runs, axis=0), (tiles, 1))
    for within_axes in (False, True):
        folding, found = folded(whole, within_axes=within_axes)
        assert found.shape == folding.part
        assert np.array_equal(np.broadcast_to(found, folding.whole).reshape(whole.shape), whole)


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=50), most=st.integers(1, 7))
@settings(deadline=None)
def test_kinds_are_the_different_values(values: list[int], most: int) -> None:
    for bits in (torch.tensor(values), torch.tensor(values).repeat_interleave(1 << 12)):
        found = kinds_of(bits, most)
        if len(set(values)) > most:
            assert found is None
            continue
        kinds, labels = found
        assert kinds.tolist() == sorted(set(values))
        assert torch.equal(kinds[labels], bits)


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
