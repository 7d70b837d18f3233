"""What a layer knows about its weight is in the default plan, or a warning says what ignores it.

The tables in layer_tables.py have all classes of torch.nn: one that they lack fails the first test.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from tests.torch.layer_tables import BASES, CONTAINERS, JAX, LAZY, LSTM, STATE, STATELESS, TORCH

pytestmark = [
    # torch's own, of LazyModule, of NLLLoss2d, and of Transformer's nested tensors.
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
    pytest.mark.filterwarnings("ignore:.NLLLoss2d. has been deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.spectral_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:nn.Container is deprecated:FutureWarning"),
]


def warned(model: nn.Module, *rules: ict.Rule, **rest: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ict.plan(model, rules, **rest)
    return [str(one.message) for one in caught]


def test_every_class_of_torch_nn_is_considered() -> None:
    known = {
        name
        for name, kind in vars(nn).items()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
    }
    tables = [set(STATE), set(LAZY), set(CONTAINERS), set(STATELESS)]
    assert known - set().union(*tables) == set()
    assert sum(map(len, tables)) == len(set().union(*tables))


@pytest.mark.parametrize("kind", [kind for kind in STATELESS if hasattr(nn, kind)])
def test_what_counts_as_stateless_is(kind: str) -> None:
    module = getattr(nn, kind)(*STATELESS[kind])
    assert not list(module.parameters())
    assert not list(module.buffers())


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_layers_are_refused_until_they_have_a_shape(kind: str) -> None:
    with pytest.raises(ic.PlanError, match=f"of a lazy module, {kind}, has no shape yet"):
        ict.plan(getattr(nn, kind)(*LAZY[kind]))


@pytest.mark.parametrize("kind", STATE)
def test_torchs_own_draws_are_no_warning(kind: str) -> None:
    texts = warned(STATE[kind][0]())
    buffers = ["no rule has the values of buffer weight, so the plan leaves them out; init_ calls "]
    buffers[0] += "the modules to compute them, if they can"
    assert texts == (buffers if kind.endswith(("Loss", "Loss2d")) and texts else [])


CASES = [
    pytest.param(kind, *case, id=f"{kind}-{case[0]}-{case[1].__name__}-{number}")
    for kind, (_, cases) in STATE.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("kind", "name", "builder", "arguments", "words"), CASES)
def test_a_rule_that_ignores_what_the_layer_knows_is_one_warning(
    kind: str, name: str, builder: Any, arguments: dict[str, Any], words: str
) -> None:
    module = STATE[kind][0]()
    rule = ict.rule(name, builder, **arguments)
    texts = [text for text in warned(module, rule) if "leaves them out" not in text]
    if words:
        (text,) = texts
        assert text.startswith(f"{name}: ")
        assert words in text
    else:
        assert texts == []


def test_every_class_with_a_weight_has_cases() -> None:
    assert {kind for kind, (_, cases) in STATE.items() if not cases} == set(BASES)


def test_one_warning_names_all_parameters_that_it_is_about() -> None:
    model = nn.Sequential(*(nn.ConvTranspose2d(8, 8, 3) for _ in range(5)))
    (text,) = warned(model, ict.rule("*.weight", ic.kaiming_normal))
    assert text.startswith("0.weight, 1.weight, 2.weight and 2 more: a transposed convolution")


def test_fan_out_is_a_warning_on_transposed_layers_only_with_others() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(8, 8, 3))
    (text,) = warned(model, ict.rule("*.weight", ic.kaiming_normal, mode="fan_out"))
    assert text.startswith("1.weight: ")
    assert "fan out counts its inputs; mode='fan_in' counts its outputs" in text
    rules = [ict.rule(nn.ConvTranspose2d, ic.kaiming_normal, parameter="weight", mode="fan_out")]
    assert warned(model, *rules) == []


def test_the_std_that_the_remedy_names_is_that_of_the_inputs() -> None:
    module = nn.ConvTranspose2d(16, 8, 3)
    plan = ict.plan(module, [ict.rule("weight", ic.kaiming_normal, mode="fan_out", a=1)])
    inputs = module.in_channels * 9
    assert ic.describe(plan, target="local").tensors[0].std == pytest.approx(inputs**-0.5)


def test_a_matrix_for_each_gate_is_no_warning() -> None:
    def gates(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        one = ic.orthogonal((shape[0] // 4, shape[1]), dtype=dtype)
        return ic.concatenate(dict.fromkeys(LSTM, one))

    def forget(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        size = shape[0] // 4
        ones = {"forget": ic.ones((size,), dtype=dtype)}
        rest = dict.fromkeys(LSTM, ic.zeros((size,), dtype=dtype))
        return ic.concatenate(rest | ones)

    rules = [ict.rule("weight_hh*", gates), ict.rule("bias_hh*", forget)]
    module = nn.LSTM(8, 8)
    with pytest.warns(ic.PlanWarning, match="stream"):
        plan = ict.plan(module, [*rules, ict.rule("bias_ih*", ic.zeros)])
    ict.init_(module, plan, "local")
    for block in module.weight_hh_l0.detach().split(8):
        assert torch.allclose(block @ block.T, torch.eye(8), atol=1e-5)
    assert module.bias_hh_l0.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def test_slopes_and_class_weights_under_a_rule_for_other_layers_are_a_warning() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU())
    (text,) = warned(model, ict.rule("*.weight", ic.normal))
    assert "1.weight: are slopes of PReLU, which the module starts at 0.25" in text
    assert warned(model, ict.rule(nn.PReLU, ic.normal), ict.rule("*.weight", ic.normal)) == []
    model = nn.Sequential(nn.Linear(4, 4), nn.CrossEntropyLoss(torch.rand(4)))
    (text,) = warned(model, ict.rule("*.weight", ic.ones))
    assert "1.weight: a buffer of CrossEntropyLoss" in text
    assert "ict.rule('1.weight', ict.keep) before that rule" in text
    before = model[1].weight.clone()
    rules = [ict.rule("1.weight", ict.keep), ict.rule("*.weight", ic.normal)]
    assert warned(model, *rules) == []
    ict.init_(model, ict.plan(model, rules), "local")
    assert torch.equal(model[1].weight, before)


COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "WeightNorm": parametrizations.weight_norm,
    "SpectralNorm": parametrizations.spectral_norm,
    "Orthogonal": parametrizations.orthogonal,
    "RandomUnstructured": lambda module: prune.random_unstructured(module, "weight", 0.5),
    "old WeightNorm": torch.nn.utils.weight_norm,
    "old SpectralNorm": torch.nn.utils.spectral_norm,
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_is_computed_from_the_draw_is_a_warning(kind: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), COMPUTED[kind](nn.Linear(8, 8)))
    bias = ict.rule("*bias", ic.zeros)
    texts = [t for t in warned(model, bias, ict.rule("*", ic.normal)) if "leaves them" not in t]
    (text,) = texts
    assert f"is computed from it by {kind.removeprefix('old ')}" in text
    rules = [ict.rule("1.*", ic.normal), ict.rule("0.weight", ic.normal)]
    texts = [t for t in warned(model, bias, *rules) if "leaves them" not in t]
    assert texts == []
    with pytest.raises(ic.PlanError, match="no rule covers this parameter"):
        ict.plan(model, [bias])


def test_transformers_conv1d_has_jax_axes() -> None:
    from transformers.pytorch_utils import Conv1D

    model = Conv1D(24, 8)
    bias = ict.rule("bias", ic.zeros)
    (text,) = warned(model, bias, ict.rule("weight", ic.kaiming_normal))
    assert "axes of transformers' Conv1D are [in, out]" in text
    for arguments in (JAX, TORCH):
        assert warned(model, bias, ict.rule("weight", ic.kaiming_normal, **arguments)) == []
    plan = ict.plan(model, [bias, ict.rule("weight", ic.lecun_normal, layout="jax")])
    assert ic.describe(plan, target="local").tensors[0].fan_in == 8


def test_recipes_are_held_to_it_too() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(8, 8, 3))
    (text,) = warned(model, recipe="he")
    assert "fan in counts its outputs" in text
    assert warned(model, recipe="xavier") == []
    assert warned(model, recipe="torch") == []


def test_a_tied_weight_has_the_default_of_its_first_place_without_a_warning() -> None:
    model = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16, bias=False))
    model[1].weight = model[0].weight
    assert warned(model) == []
    plan = ict.plan(model)
    assert [tensor.scheme for tensor in plan.tensors.values()] == ["normal", "normal"]
