"""Rules give parameters their initializers; a parameter without a rule is never guessed."""

from __future__ import annotations

import re
import warnings
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 4)


CLASSIC = [
    ict.rule("*.bias", ic.zeros),
    ict.rule("fc.weight", ic.kaiming_normal),
    ict.rule(nn.Conv2d, ic.kaiming_normal, mode="fan_out", nonlinearity="relu"),
    ict.rule(nn.BatchNorm2d, ic.ones),
]


def test_the_classic_loop_is_four_lines() -> None:
    plan = ict.plan(Net(), CLASSIC, seed=7)
    assert plan == ic.Plan(
        seed=7,
        tensors={
            "stem.0.weight": ic.kaiming_normal((8, 3, 3, 3), mode="fan_out", nonlinearity="relu"),
            "stem.0.bias": ic.zeros((8,)),
            "stem.1.weight": ic.ones((8,)),
            "stem.1.bias": ic.zeros((8,)),
            "stem.1.running_mean": ic.zeros((8,)),
            "stem.1.running_var": ic.ones((8,)),
            "stem.1.num_batches_tracked": ic.zeros((), dtype="I64"),
            "fc.weight": ic.kaiming_normal((4, 8)),
            "fc.bias": ic.zeros((4,)),
        },
    )


def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        ict.rule(re.compile(r"stem\.\d+\.bias"), ic.constant, val=2),
        ict.rule((nn.Conv2d, nn.Linear), ic.constant, parameter="bias", val=3),
    ]
    plan = ict.plan(Net(), rules)
    assert plan.tensors["stem.0.bias"].val == 2
    assert plan.tensors["fc.bias"].val == 3
    assert plan.tensors["fc.weight"].scheme == "kaiming_uniform"


def test_an_initializer_may_be_a_function_of_the_shape() -> None:
    def by_width(shape: tuple[int, ...], **common: Any) -> ic.Tensor:
        return ic.normal(shape, std=shape[0] ** -0.5, **common)

    plan = ict.plan(nn.Linear(3, 4), [ict.rule("weight", by_width)])
    assert plan.tensors["weight"] == ic.normal((4, 3), std=0.5)


def test_a_rule_may_give_a_seed() -> None:
    plan = ict.plan(nn.Linear(3, 4), [ict.rule("weight", ic.normal, seed=11)], seed=7)
    assert (plan.seed, plan.tensors["weight"].seed) == (7, 11)


def test_buffers_only_match_a_rule_that_spells_them_out() -> None:
    wide = [ict.rule("*", ic.ones), ict.rule(nn.BatchNorm1d, ic.ones)]
    with pytest.warns(ic.PlanWarning, match="has no effect"):
        plan = ict.plan(nn.BatchNorm1d(4), wide)
    assert plan.tensors["running_mean"].scheme == "zeros"
    for rule in (
        ict.rule(nn.BatchNorm1d, ic.constant, parameter="running_mean", val=5),
        ict.rule("*running_mean", ic.constant, val=5),
        ict.rule("0.running_mean", ic.constant, val=5),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ic.PlanWarning)
            plan = ict.plan(nn.Sequential(nn.BatchNorm1d(4)), [rule])
        spelled_out = rule.where != "*running_mean"
        assert (plan.tensors["0.running_mean"].val == 5) == spelled_out


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([ict.rule("fc.wieght", ic.zeros)], r"rule\('fc.wieght', zeros\) has no effect"),
        ([ict.rule(nn.Conv3d, ic.zeros)], r"rule\(Conv3d, zeros\) has no effect"),
        (
            [ict.rule("*", ic.zeros), ict.rule((nn.Linear,), ic.constant, val=1)],
            r"rule\(\(Linear\), constant, val=1\) has no effect: earlier rules match all of",
        ),
    ],
)
def test_a_rule_without_effect_is_reported(rules: list[ict.Rule], text: str) -> None:
    with pytest.warns(ic.PlanWarning, match=text):
        ict.plan(Net(), rules)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(3))
        self.items = nn.ParameterDict({"a": torch.zeros(2, 2)})


def test_every_parameter_that_no_rule_covers_is_named_with_a_rule_to_add() -> None:
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(nn.Sequential(nn.Linear(2, 2), Scale()))
    assert [v.tensor for v in caught.value.violations] == ["1.gamma", "1.items.a"]
    assert (
        "tensor '1.gamma': scheme: no rule covers this parameter of Scale, of shape [3]; add one, "
        "such as rule(Scale, ic.ones, parameter='gamma')"
    ) in str(caught.value)


def test_what_is_wrong_with_a_rule_for_a_shape_names_the_tensor() -> None:
    with pytest.raises(ic.PlanError, match=r"'fc.bias': shape: Fan in and fan out can not be"):
        ict.plan(Net(), [ict.rule(nn.Linear, ic.kaiming_normal)])


def test_an_argument_that_the_builder_does_not_take_is_refused_with_the_rule() -> None:
    with pytest.raises(TypeError, match=r"rule\('fc.weight', normal, sdt=0.1\) does not fit fc.we"):
        ict.plan(Net(), [ict.rule("fc.weight", ic.normal, sdt=0.1)])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ict.rule(int, ic.zeros), "matches by <class 'int'>"),
        (lambda: ict.rule((), ic.zeros), r"matches by \(\)"),
        (lambda: ict.rule("*", ic.zeros((3,))), "give a builder without its shape"),
        (lambda: ict.rule("*", ic.zeros, dtype="BF16"), "dtype comes from the model"),
        (lambda: ict.plan(Net), "give a torch.nn.Module"),
        (lambda: ict.plan(Net(), [("*", ic.zeros)]), "make rules with ict.rule"),
        (lambda: ict.plan(Net(), [ict.rule("*", len)]), "does not fit stem.0.weight"),
    ],
)
def test_what_is_no_rule_is_refused(make: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


@pytest.fixture
def tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    return model


def test_tied_weights_are_one_stream_and_the_first_name_counts(tied: nn.Module) -> None:
    plan = ict.plan(tied, [ict.rule("0.weight", ic.normal, std=0.5)])
    assert dict(plan.tensors) == {
        "0.weight": ic.normal((10, 4), std=0.5),
        "1.weight": ic.normal((10, 4), std=0.5, stream="0.weight"),
    }
    with pytest.warns(ic.PlanWarning, match="1.weight is tied to 0.weight, whose rule counts"):
        ict.plan(tied, [ict.rule("1.weight", ic.zeros)])


def test_element_types_are_the_models_or_the_one_that_is_asked_for() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4).bfloat16())
    plan = ict.plan(model)
    assert [t.dtype for t in plan.tensors.values()] == [*["F32"] * 4, "I64", "BF16", "BF16"]
    plan = ict.plan(model, dtype=torch.float16)
    assert [t.dtype for t in plan.tensors.values()] == [*["F16"] * 4, "I64", "F16", "F16"]


def test_lazy_modules_have_no_plan_before_they_have_shapes() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    with pytest.raises(ic.PlanError, match=r"'0.weight': shape: this parameter of a lazy module"):
        ict.plan(model)
    model(torch.zeros(2, 3))
    assert ict.plan(model).tensors["0.weight"].shape == (4, 3)


def test_persistent_buffers_that_no_rule_knows_are_left_out_and_reported() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.ones(2, 2))
    with pytest.warns(ic.PlanWarning, match="values of buffer mask, so the plan leaves them out"):
        assert "mask" not in ict.plan(model).tensors
    plan = ict.plan(model, [ict.rule("mask", ic.ones)])
    assert plan.tensors["mask"] == ic.ones((2, 2))


class OwnNorm(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape[-1:]))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(4, 4))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4)])
def test_no_noise_is_suggested_for_a_norm_or_a_vector(shape: tuple[int, ...]) -> None:
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(nn.Sequential(OwnNorm(shape), Mixer()))
    weight, shift, matrix = [violation.message for violation in caught.value.violations]
    assert "such as rule(OwnNorm, ic.ones, parameter='weight')" in weight
    assert "such as rule(OwnNorm, ic.zeros, parameter='shift')" in shift
    assert "such as rule(Mixer, ic.normal, std=0.02, parameter='matrix')" in matrix
    # Each with the remedy that it needs: the suggested rules make a plan.
    rules = [ict.rule(OwnNorm, ic.ones, parameter="weight")]
    rules += [ict.rule(OwnNorm, ic.zeros, parameter="shift")]
    rules += [ict.rule(Mixer, ic.normal, std=0.02, parameter="matrix")]
    assert len(ict.plan(nn.Sequential(OwnNorm(shape), Mixer()), rules)) == 3


def test_a_model_of_a_library_is_answered_with_its_recording() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(model)
    # Its norms have no default, and its other layers have torch's, which are not the model's.
    found = [violation.message for violation in caught.value.violations]
    first, *rest = [message for message in found if "of LlamaRMSNorm" in message]
    assert "such as rule(LlamaRMSNorm, ic.ones, parameter='weight')" in first
    assert "ict.record(LlamaForCausalLM, config).plan(seed=0)" in first
    assert not any("normal" in message for message in found)
    assert len(found) > len([first, *rest])
    # The recipes of such models repeat the library's code, and are deprecated.
    assert "recipe" not in first
