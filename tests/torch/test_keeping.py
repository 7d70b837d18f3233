"""What is frozen or has values already is not drawn anew without a word, and can be kept."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient._plan import KeepingPlan
from torch import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def frozen() -> nn.Sequential:
    model = net()
    model[0].requires_grad_(False)
    return model


def warned(model: nn.Module, *rules: ict.Rule, **rest: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ict.plan(model, rules, **rest)
    return [str(one.message) for one in caught]


def test_a_random_draw_on_frozen_parameters_is_one_warning_that_names_them() -> None:
    (text,) = warned(frozen())
    assert "draws 0.weight, 0.bias at random, frozen in the model (requires_grad=False)" in text
    assert "ict.rule('0.weight', ict.keep) leaves what is there" in text
    whole = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))).requires_grad_(False)
    (text,) = warned(whole)
    assert "draws 0.weight, 0.bias, 1.weight and 5 more at random" in text


@pytest.mark.parametrize(
    "rules",
    [
        [ict.rule("0.weight", ic.normal), ict.rule("0.bias", ic.normal)],
        [ict.rule("0.*", ic.normal)],
        [ict.rule("*", ic.ones)],
        [ict.rule("0.*", ict.keep)],
    ],
)
def test_frozen_parameters_that_a_rule_singles_out_are_no_warning(rules: list[ict.Rule]) -> None:
    assert warned(frozen(), *rules) == []


@pytest.mark.parametrize("where", ["*.weight", nn.Linear, "*"])
def test_a_rule_for_other_layers_too_does_not_single_out(where: Any) -> None:
    norm = ict.rule(nn.LayerNorm, ic.ones)
    texts = warned(frozen(), norm, ict.rule(where, ic.normal, parameter="weight"))
    assert any("draws 0.weight" in text and "frozen in the model" in text for text in texts)


def test_trainable_models_have_no_warning() -> None:
    assert warned(net()) == []


class GemmaRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))


class NormedLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), GemmaRMSNorm()],
    ids=lambda norm: type(norm).__name__,
)
def test_noise_on_the_weight_of_a_norm_by_a_wide_rule_is_a_warning(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 4), norm)
    for where in ("*", "*.weight", nn.Module):
        (text,) = warned(model, ict.rule(where, ic.normal, std=0.02))[:1]
        assert "draws 1.weight at random, by a rule for other layers too" in text
        assert "ict.rule('1.weight', ic.ones) before that rule" in text
    for named in ("1.*", "1.weight", type(norm), (nn.Linear, type(norm))):
        assert warned(model, ict.rule(named, ic.normal), ict.rule("*", ic.zeros)) in (
            [],
            [
                "rule('*', zeros) has no effect: earlier rules match all of its parameters, or it "
                "matches none"
            ],
        )
    assert warned(model, ict.rule("*", ic.constant, val=0.5)) == []


def test_a_matrix_of_a_layer_with_norm_in_its_name_is_no_norm() -> None:
    assert warned(nn.Sequential(NormedLinear()), ict.rule("*", ic.normal)) == []


def test_noise_on_the_weight_of_a_norm_by_a_recipe_is_a_warning(tmp_path: Path) -> None:
    recipe = tmp_path / "wide.yaml"
    recipe.write_text(
        "summary: all alike\nsource: a test\nrules:\n  - {name: '*', scheme: normal, std: 0.02}\n"
    )
    texts = warned(net(), recipe=recipe)
    assert any("draws 1.weight at random, by a rule for other layers too" in t for t in texts)
    recipe.write_text(
        "summary: norms too\nsource: a test\nrules:\n"
        "  - {type: [Linear, LayerNorm], scheme: normal, std: 0.02}\n"
    )
    assert warned(net(), recipe=recipe) == []
    assert any("frozen in the model" in text for text in warned(frozen(), recipe=recipe))


class LoraLinear(nn.Module):
    """The structure of peft.tuners.lora.Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(4, 4).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})
        self.reset_lora_parameters()

    def reset_lora_parameters(self) -> None:
        nn.init.zeros_(self.lora_B["default"].weight)


def test_adapters_are_drawn_with_a_warning_and_kept_without() -> None:
    model = nn.Sequential(LoraLinear())
    base, adapters = warned(model, ict.rule("*", ic.normal, std=0.02))
    assert "draws 0.base_layer.weight, 0.base_layer.bias at random, frozen" in base
    assert (
        "draws 0.lora_A.default.weight, 0.lora_B.default.weight at random, of adapters that their "
        "own code initializes (LoraLinear.reset_lora_parameters)" in adapters
    )
    assert (
        warned(
            model,
            ict.rule("*base_layer*", ict.keep),
            ict.rule("*lora_B*", ict.keep),
            ict.rule("*lora_A*", ic.normal),
        )
        == []
    )


def test_what_is_kept_is_not_in_the_plan_and_stays() -> None:
    model = frozen()
    before = copy.deepcopy(model.state_dict())
    plan = ict.plan(model, [ict.rule("0.*", ict.keep)], seed=7)
    assert isinstance(plan, KeepingPlan)
    assert plan.kept == ("0.weight", "0.bias")
    assert list(plan.tensors) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    report = ict.init_(model, plan, "local")
    assert report.kept == ("0.weight", "0.bias")
    assert report.filled == tuple(plan.tensors)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])
    for found in (
        ict.verify(model, plan, "local"),
        ic.verify(model.state_dict(), plan, target="local"),
        ic.verify({n: v.numpy() for n, v in model.state_dict().items()}, plan, target="local"),
    ):
        assert found.agreed == tuple(plan.tensors)
        assert set(found.left_out) == {"0.weight", "0.bias"}


def test_a_plan_that_keeps_goes_through_copies_seeds_selections_and_lsuv() -> None:
    model = net()
    plan = ict.plan(model, [ict.rule("1.*", ict.keep)], seed=7)
    assert isinstance(plan, KeepingPlan)
    for other in (
        pickle.loads(pickle.dumps(plan)),
        copy.deepcopy(plan),
        plan.with_seed(3),
        plan.select(["0.weight"]),
        plan.shard({"0.weight": (slice(0, 2),)}),
        ict.lsuv(model, plan, torch.randn(64, 4)),
    ):
        assert isinstance(other, KeepingPlan)
        assert other.kept == plan.kept
    assert plan.with_seed(3).seed == 3
    assert list(plan.select(["0.weight"]).tensors) == ["0.weight"]
    assert plan.shard({"0.weight": (slice(0, 2),)}).tensors["0.weight"].slices is not None
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_a_plan_from_a_file_takes_what_to_keep_as_a_glob(tmp_path: Path) -> None:
    model = net()
    path = tmp_path / "plan.yaml"
    ic.dump_plan(ict.plan(model, [ict.rule("0.*", ict.keep)], seed=7), path)
    with pytest.raises(ic.PlanError, match=r"'0\.weight': name: .*leave it as it is \(keep=\)"):
        ict.init_(model, path, "local")
    with pytest.raises(ic.PlanError, match=r"keep: has '1\.wieght', which no parameter or buffer"):
        ict.init_(model, path, "local", keep=["0.*", "1.wieght"])
    before = model[0].weight.clone()
    assert ict.init_(model, path, "local", keep="0.*").kept == ("0.weight", "0.bias")
    assert torch.equal(model[0].weight, before)
    assert ict.verify(model, path, "local", ignore="0.*").left_out == ("0.weight", "0.bias")


def test_nothing_that_was_kept_is_drawn_by_the_plan_of_a_file(tmp_path: Path) -> None:
    class Net(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 4), nn.CrossEntropyLoss(torch.rand(4)))

    model = Net()
    rules = [ict.rule("1.weight", ict.keep), ict.rule("0.*", ict.keep)]
    path = tmp_path / "plan.yaml"
    ic.dump_plan(ict.plan(model, rules), path)
    assert len(ic.load_plan(path)) == 0
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ic.PlanError, match=r"leave it as it is \(keep=\)"):
        ict.init_(model, path, "local")
    report = ict.init_(model, path, "local", keep="0.*")
    assert set(report.kept) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_keep_counts_more_than_the_plan_and_values_more_than_both() -> None:
    model = net()
    plan = ict.plan(model, [ict.rule("0.*", ict.keep)], seed=7)
    before = model[2].weight.clone()
    report = ict.init_(model, plan, "local", keep="2.weight", values={"0.weight": torch.ones(4, 4)})
    assert report.kept == ("0.bias", "2.weight")
    assert report.given == ("0.weight",)
    assert torch.equal(model[2].weight, before)
    assert torch.equal(model[0].weight, torch.ones(4, 4))


def test_what_is_on_meta_cannot_be_kept_and_nothing_changes() -> None:
    model = net()
    model[0].to("meta")
    plan = ict.plan(model, [ict.rule("0.*", ict.keep)], seed=7)
    before = model[2].weight.clone()
    with pytest.raises(ic.PlanError, match=r"'0\.weight': keep: is to stay as it is, and is on"):
        ict.init_(model, plan, "local", device="cpu")
    assert torch.equal(model[2].weight, before)
    assert model[0].weight.is_meta


def test_kept_tensors_that_would_be_overwritten_are_refused() -> None:
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    plan = ict.plan(tied, seed=7)
    with pytest.raises(ic.PlanError, match=r"'1\.weight': keep: .*is tied to '0\.weight', which"):
        ict.init_(tied, plan, "local", keep="1.weight")
    base = torch.zeros(8, 4)
    model = nn.ParameterDict({"a": nn.Parameter(base[:4]), "b": nn.Parameter(base)})
    shared = ic.Plan({"b": ic.normal((8, 4))})
    with pytest.raises(ic.PlanError, match=r"'a': keep: .*shares memory with 'b', which is filled"):
        ict.init_(model, shared, "local", keep="a")
    assert not base.any()


def test_a_tied_tensor_is_kept_under_every_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    plan = ict.plan(model, [ict.rule("0.weight", ict.keep)])
    before = model[0].weight.clone()
    assert ict.init_(model, plan, "local").kept == ("0.weight", "1.weight")
    assert torch.equal(model[1].weight, before)


class Positions(nn.Module):
    """Its code computes the buffers, and draws the weight again on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 3.0))
        self.register_buffer("steps", torch.arange(4.0), persistent=False)
        self.register_buffer("table", torch.full((4,), 5.0), persistent=False)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        self.steps = torch.arange(4.0)
        self.table = torch.zeros(4)


def test_code_that_computes_buffers_does_not_touch_what_is_kept() -> None:
    model = nn.Sequential(Positions(), nn.Linear(2, 2))
    rules = [ict.rule("0.weight", ict.keep)]
    report = ict.init_(model, ict.plan(model, rules), "local", keep="0.table")
    assert report.computed == ("0.steps",)
    assert report.kept == ("0.weight", "0.table")
    assert torch.equal(model[0].weight, torch.full((4,), 3.0))
    assert torch.equal(model[0].table, torch.full((4,), 5.0))


def test_keep_makes_no_tensor_elsewhere() -> None:
    import initclient.jax as icj
    import jax

    tree = {"w": jax.ShapeDtypeStruct((4,), "float32")}
    with pytest.raises(TypeError, match="keep is the initializer of a rule for models of torch"):
        icj.plan(tree, [icj.rule("w", ict.keep)])


def test_a_plan_that_takes_tensors_from_a_checkpoint_keeps_the_rest() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    plan = ict.plan(model, [ict.rule("1.*", ict.keep)])
    assert ic.with_pretrained(plan, "x.safetensors", "0.weight").kept == plan.kept  # type: ignore[attr-defined]


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))
        self.register_buffer("angles", torch.arange(3.0), persistent=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        self.angles = torch.arange(3.0)


class Mystery(nn.Module):
    """A buffer that no code computes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mystery", torch.ones(2), persistent=False)


def test_what_is_kept_stays_also_where_init_raises() -> None:
    with torch.device("meta"):
        lost = Mystery()
    model = nn.ModuleDict({"base": Base(), "ad": lost})
    plan = ict.plan(model, [ict.rule("base.*", ict.keep)])
    with pytest.raises(ic.PlanError, match=r"ad\.mystery"):
        ict.init_(model, plan, "local", device="cpu")
    assert torch.equal(model["base"].weight, torch.ones(3, 3))


def test_only_what_code_may_touch_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    clone = torch.Tensor.clone

    def noted(self: torch.Tensor, *more: Any, **rest: Any) -> torch.Tensor:
        copied.append(tuple(self.shape))
        return clone(self, *more, **rest)

    class Root(nn.Module):
        """A buffer of its own, and no code that computes it."""

        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(50, 50)
            self.head = nn.Linear(50, 2)
            self.register_buffer("pos", torch.zeros(4), persistent=False)

    model = Root()
    plan = ict.plan(model, [ict.rule("base.*", ict.keep)])
    monkeypatch.setattr(torch.Tensor, "clone", noted)
    ict.init_(model, plan, "local")
    assert (50, 50) not in copied
