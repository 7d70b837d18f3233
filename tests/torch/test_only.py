"""A plan for a part of a model: `only=` names it, and everything else stays as it is."""

from __future__ import annotations

import copy
import warnings
from fnmatch import fnmatchcase
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from initclient._plan import kept
from torch import nn


class Block(nn.Module):
    """A layer with everything that a plan treats in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("steps", torch.arange(4.0), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(values))


class Net(nn.Module):
    """A tie between an embedding with a padding row and a head, and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4, padding_idx=0)
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


class Copied(nn.Module):
    """Deep copies of one layer, whose draws a recording gives one stream."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(4, 4)
        self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(3)])
        self.last = nn.Linear(4, 4)


def names_of(model: nn.Module) -> list[str]:
    found = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return found + [name for name, _ in model.named_buffers(remove_duplicate=False)]


def quiet(make: Any, *given: Any, **named: Any) -> ic.Plan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.PlanWarning)
        return make(*given, **named)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_plan_of_a_part_has_the_values_of_the_plan_of_the_whole(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from([Net, Copied]))
    rules = data.draw(
        st.lists(
            st.sampled_from(
                [
                    ict.rule("*.0.*", ic.ones),
                    ict.rule("*weight", ic.normal, std=0.02),
                    ict.rule("head.*", ic.zeros),
                    ict.rule("layers.1.*", ict.keep),
                    ict.rule("layers.0.norm.running_mean", ic.constant, val=0.25),
                ]
            ),
            unique=True,
        )
    )
    parts = st.sampled_from(["*", "layers.*", "layers.0.*", "*.weight", "*.bias", "*running*"])
    chosen = data.draw(st.lists(parts | st.sampled_from(names_of(model())), min_size=1, max_size=3))
    only = [glob for glob in chosen if any(_matches(glob, name) for name in names_of(model()))]
    if not only:
        return
    if data.draw(st.booleans()):
        recording = ict.record(model)
        whole = quiet(recording.plan, 7, rules)
        part = quiet(recording.plan, 7, rules, only=only)
    else:
        whole = quiet(ict.plan, model(), rules, seed=7)
        part = quiet(ict.plan, model(), rules, seed=7, only=only)
    tied = {"embed.weight": "head.weight", "head.weight": "embed.weight"}
    inside = {name for name in names_of(model()) for glob in only if _matches(glob, name)}
    if model is Net:
        inside |= {tied[name] for name in inside & tied.keys()}
    assert part.tensors == {n: t for n, t in whole.tensors.items() if n in inside}
    assert list(part.tensors) == [name for name in whole.tensors if name in inside]
    outside = set(names_of(model())) - inside
    assert set(kept(part)) == outside | (set(kept(whole)) & inside)


def _matches(glob: str, name: str) -> bool:
    return fnmatchcase(name, glob)


def test_init_and_verify_leave_everything_else_as_it_is() -> None:
    model = Net()
    with torch.no_grad():
        model.layers[0].norm.running_mean.fill_(3.0)
        model.layers[0].steps.fill_(5.0)
    before = {name: value.clone() for name, value in _all(model).items()}
    plan = ict.plan(model, seed=7, only="layers.1.*")
    report = ict.init_(model, plan, "local")
    assert set(report.filled) == set(plan.tensors)
    assert all(name.startswith("layers.1.") for name in report.filled)
    assert set(report.kept) >= {"embed.weight", "head.weight", "layers.0.norm.running_mean"}
    assert "layers.0.steps" in report.kept
    for name, value in _all(model).items():
        if not name.startswith("layers.1."):
            assert torch.equal(value, before[name]), name
    whole = ic.fetch(ict.plan(Net(), seed=7), target="local", framework="torch")
    for name in plan.tensors:
        assert torch.equal(_all(model)[name], whole[name]), name
    verified = ict.verify(model, plan, "local")
    assert verified.agreed == tuple(plan.tensors)
    assert "embed.weight" in verified.left_out
    with torch.no_grad():
        model.layers[1].fc.weight[0, 0] += 1
    with pytest.raises(ic.VerificationError, match=r"layers\.1\.fc\.weight"):
        ict.verify(model, plan, "local")


def _all(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())


def test_a_tied_tensor_matches_by_any_of_its_names() -> None:
    plan = ict.plan(Net(), seed=7, only="head.*")
    assert list(plan.tensors) == ["embed.weight", "head.weight"]
    assert plan.tensors["head.weight"].stream == "embed.weight"


def test_parameters_outside_need_no_rule_and_no_default() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.ones(3))
            self.fc = nn.Linear(3, 3)

    with pytest.raises(ic.PlanError, match="no rule covers"):
        ict.plan(Own())
    plan = ict.plan(Own(), only="fc.*")
    assert list(plan.tensors) == ["fc.weight", "fc.bias"]
    assert kept(plan) == ("own",)


@pytest.mark.parametrize(
    ("glob", "close"),
    [
        ("layers.1.fc.wieght", "layers.1.fc.weight"),
        ("*.Norm.*", r"\*\.norm\.\*"),
        ("fc", r"\*fc\.\*"),
        ("model.layers.1.fc.weight", "layers.1.fc.weight"),
        ("layers.1", r"layers\.1\.\*"),
        ("zzz", "its first name is 'embed.weight'"),
    ],
)
def test_a_glob_that_matches_nothing_is_an_error_with_a_close_one(glob: str, close: str) -> None:
    with pytest.raises(ic.PlanError, match=f"only: has .*matches; .*({close})"):
        ict.plan(Net(), only=["layers.*", glob])


def test_every_suggested_glob_matches() -> None:
    for glob in ("layers.1.fc.wieght", "*.Norm.*", "fc", "layers.1", "layers[0]", "*fc.bais"):
        with pytest.raises(ic.PlanError) as caught:
            ict.plan(Net(), only=glob)
        _, _, rest = str(caught.value).partition("did you mean '")
        assert ict.plan(Net(), only=rest.partition("'")[0]).tensors, glob


def test_no_glob_at_all_and_other_types_are_refused() -> None:
    with pytest.raises(ic.PlanError, match="only: has no glob; give one for each part"):
        ict.plan(Net(), only=())
    with pytest.raises(TypeError, match=r"only has <class .*Linear'>; give globs for names"):
        ict.plan(Net(), only=[nn.Linear])  # type: ignore[list-item]


def test_a_rule_for_what_is_left_out_is_a_warning_and_no_error() -> None:
    with pytest.warns(ic.PlanWarning, match=r"rule\('embed.*no effect: only= leaves out its"):
        ict.plan(Net(), [ict.rule("embed.*", ic.zeros)], only="layers.*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ict.plan(Net(), [ict.rule("*.weight", ic.ones)], only="layers.*")


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4, bias=False))


def test_a_norm_without_its_direction_is_refused_with_the_remedy() -> None:
    recording = ict.record(Normed)
    length, direction = (f"conv.parametrizations.weight.original{i}" for i in (0, 1))
    both = recording.plan(seed=7, only="conv.*")
    assert list(both.tensors) == [length, direction]
    with pytest.raises(ic.PlanError, match=rf"original0'.*keep {length} too, or plan both"):
        recording.plan(seed=7, only=length)
    assert list(recording.plan(seed=7, only=direction).tensors) == [direction]


def test_a_part_on_meta_is_filled_and_the_rest_must_have_values() -> None:
    model = Net()
    plan = ict.plan(model, seed=7, only="layers.1.*")
    model.layers[1].to("meta")
    values = {"layers.1.steps": torch.arange(4.0)}
    report = ict.init_(model, plan, "local", device="cpu", values=values)
    assert "layers.1.fc.weight" in report.filled
    model.layers[0].to("meta")
    with pytest.raises(ic.PlanError, match=r"layers\.0\.fc\.weight'.*is to stay as it is, and is"):
        ict.init_(model, plan, "local", device="cpu", values=values)


def test_a_file_of_such_a_plan_takes_the_rest_as_keep(tmp_path: Any) -> None:
    model = Net()
    path = tmp_path / "plan.yaml"
    ic.dump_plan(ict.plan(model, seed=7, only="layers.1.*"), path)
    plan = ic.load_plan(path)
    with pytest.raises(ic.PlanError, match=r"leave it as it is \(keep=\)"):
        ict.init_(model, plan, "local")
    before = model.embed.weight.clone()
    rest = [name for name in model.state_dict() if name not in plan]
    ict.init_(model, plan, "local", keep=rest)
    assert torch.equal(model.embed.weight, before)
    assert ict.verify(model, plan, "local", ignore=rest).agreed == tuple(plan.tensors)
