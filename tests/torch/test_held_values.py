"""plan warns where it draws torch's default and the model has other values."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

HOLDS = "the plan draws torch's defaults for "


def warned(model: nn.Module, *rules: ict.Rule) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ict.plan(model, rules)
    texts = [str(one.message) for one in caught if one.category is ic.PlanWarning]
    return [text for text in texts if text.startswith(HOLDS)]


def zeroed(module: nn.Module) -> nn.Module:
    """As in guided diffusion and ControlNet."""
    for parameter in module.parameters():
        parameter.detach().zero_()
    return module


def with_zeroed() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 32), zeroed(nn.Linear(8, 8, bias=False)))


def with_prior() -> nn.Module:
    """The bias of a detector's classes."""
    head = nn.Linear(8, 2)
    head.bias = nn.Parameter(torch.full((2,), -4.6))
    return nn.Sequential(nn.Linear(32, 32), head)


def with_identity() -> nn.Module:
    layer = nn.Linear(64, 64, bias=False)
    layer.weight = nn.Parameter(torch.eye(64))
    return nn.Sequential(nn.Linear(32, 32), layer)


def with_small_normal() -> nn.Module:
    """768 inputs: the spread of torch's default is nearly the same."""
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(768, 768))
    nn.init.trunc_normal_(model[1].weight, std=0.02)
    nn.init.zeros_(model[1].bias)
    return model


def with_narrow_rows() -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(64, 64, bias=False))
    with torch.no_grad():
        model[1].weight[32:] *= 0.01
    return model


def with_pretrained() -> nn.Module:
    given = torch.linspace(-3, 3, 4000).view(100, 40)
    return nn.Sequential(nn.Linear(32, 32), nn.Embedding.from_pretrained(given, freeze=False))


def with_wide_embedding() -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 32), nn.Embedding(50, 40, padding_idx=3))
    model[1].weight.data *= 3.0
    return model


def with_copy() -> nn.Module:
    """A teacher starts as its student."""
    student = nn.Linear(16, 16)
    return nn.Sequential(student, copy.deepcopy(student))


def with_zero_gain() -> nn.Module:
    """The last norm of a residual block."""
    model = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm2d(4))
    nn.init.zeros_(model[1].weight)
    return model


def with_forget_gate() -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 32), nn.LSTM(8, 8))
    with torch.no_grad():
        model[1].bias_ih_l0[8:16] = 1.0
    return model


def with_not_a_number() -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(8, 8))
    model[1].weight.data[3, 3] = torch.nan
    return model


@pytest.mark.parametrize(
    ("make", "name", "values"),
    [
        (with_zeroed, "1.weight", "0 everywhere"),
        (with_prior, "1.bias", "-4.6 everywhere"),
        (with_identity, "1.weight", "values from 0 to 1"),
        (with_small_normal, "1.weight, 1.bias", "values from -0.0"),
        (with_narrow_rows, "1.weight", "std 0.0"),
        (with_pretrained, "1.weight", "std 1.73, where the default has 1"),
        (with_wide_embedding, "1.weight", "std "),
        (with_copy, "1.weight, 1.bias", "the values of 0.weight"),
        (with_zero_gain, "1.weight", "0 everywhere"),
        (with_forget_gate, "1.bias_ih_l0", "values from -0."),
        (with_not_a_number, "1.weight", "values that are not finite"),
    ],
)
def test_values_that_the_default_does_not_draw_are_named(
    make: Callable[[], nn.Module], name: str, values: str
) -> None:
    torch.manual_seed(3)
    model = make()
    (text,) = warned(model)
    assert text.startswith(f"{HOLDS}{name}, and the model has other values there (")
    assert f"({name.split(',')[0]} has {values}" in text
    assert "ict.record(make).plan(seed=0)" in text
    # Either of the remedies ends it.
    names = name.split(", ")
    assert not warned(model, *(ict.rule(one, ict.keep) for one in names))
    assert not warned(model, *(ict.rule(one, ic.zeros) for one in names))


def layers(size: int) -> Iterator[nn.Module]:
    """Layers of every kind that has a default."""
    yield nn.Linear(size, 2 * size)
    yield nn.Conv2d(size, 4, 3)
    yield nn.ConvTranspose1d(size, 4, 3)
    yield nn.Bilinear(size, 3, 4)
    yield nn.Embedding(7, size, padding_idx=size % 7)
    yield nn.LSTM(size, 5, num_layers=2)
    yield nn.GRUCell(3, size)
    yield nn.MultiheadAttention(4 * size, 2, add_bias_kv=True)
    yield nn.BatchNorm1d(size)
    yield nn.LayerNorm(size)
    yield nn.GroupNorm(1, size)
    yield nn.PReLU(size)
    yield nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 3)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_layers_as_torch_makes_them_have_no_warning(
    size: int, seed: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    model = nn.ModuleList(layers(size)).to(dtype)
    assert not warned(model)


def test_what_init_has_drawn_has_no_warning() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Embedding(64, 8))
    for seed in range(20):
        ict.init_(model, ict.plan(model, seed=seed))
        assert not warned(model)


@pytest.mark.parametrize("rest", [0.0, 1e30, -1e-30, torch.nan])
def test_memory_that_nobody_has_initialized_is_nothing_to_speak_of(rest: float) -> None:
    """As `to_empty` leaves it."""
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Embedding(64, 8))
    for parameter in model.parameters():
        parameter.data.fill_(rest)
    assert not warned(model)
    # A part of it may be the memory of a layer that is gone.
    nn.init.kaiming_uniform_(model[0].weight, a=5**0.5)
    model[2].weight.data[1:] = 2e-30
    assert not warned(model)


def test_a_model_whose_weights_are_all_its_builders_is_named() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    for layer in (model[0], model[2]):
        nn.init.xavier_normal_(layer.weight, gain=3.0)
        nn.init.zeros_(layer.bias)
    (text,) = warned(model)
    assert text.startswith(f"{HOLDS}0.weight, 0.bias, 2.weight and 1 more, and the model has")


def test_no_value_is_read_where_there_is_none() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(32, 32), nn.Linear(8, 8))
    assert not warned(model)
    # As FSDP frees a parameter's memory between its uses.
    freed = nn.Linear(64, 64)
    freed.weight.untyped_storage().resize_(0)
    assert not warned(freed)
    # Running statistics are no initialization.
    norm = nn.BatchNorm1d(4)
    norm(torch.randn(10, 4))
    assert not warned(norm)


def test_the_models_values_stay_and_its_plan_does_not_depend_on_them() -> None:
    model, other = with_small_normal(), nn.Sequential(nn.Linear(32, 32), nn.Linear(768, 768))
    before = model[1].weight.clone()
    with pytest.warns(ic.PlanWarning, match="has other values"):
        plan = ict.plan(model)
    assert torch.equal(model[1].weight, before)
    assert plan == ict.plan(other)
