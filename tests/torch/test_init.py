"""init_ puts a plan's weights into a model, in place, and leaves no tensor uninitialized."""

from __future__ import annotations

from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from initcore import VirtualFile
from torch import nn


class Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", self.frequencies(), persistent=False)

    def frequencies(self) -> torch.Tensor:
        return 10.0 ** -torch.arange(4.0)


class Resetting(Rotary):
    def reset_parameters(self) -> None:
        self.inv_freq.copy_(self.frequencies())


class Replacing(Rotary):
    def reset_buffers(self) -> None:
        self.register_buffer("inv_freq", self.frequencies(), persistent=False)


class Random(Rotary):
    def reset_parameters(self) -> None:
        self.inv_freq.normal_()


class Failing(Rotary):
    def reset_parameters(self) -> None:
        raise RuntimeError("not now")


class Net(nn.Module):
    def __init__(self, rotary: type[Rotary] = Resetting) -> None:
        super().__init__()
        self.embed = nn.Embedding(13, 8)
        self.rotary = rotary()
        self.norm = nn.BatchNorm1d(8)
        self.rnn = nn.GRU(8, 8)
        self.head = nn.Linear(8, 13, bias=False)
        self.head.weight = self.embed.weight


class Calling(Net):
    """Initializes its modules one by one, as models of transformers do."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Rotary):
            module.inv_freq.copy_(module.frequencies())


def on_meta(kind: type[Net], *args: Any) -> Net:
    with torch.device("meta"):
        return kind(*args)


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, a), (_, b) in zip(
        [*ours.named_parameters(), *ours.named_buffers()],
        [*theirs.named_parameters(), *theirs.named_buffers()],
        strict=True,
    ):
        assert torch.equal(a, b), name


def test_a_model_holds_what_the_file_of_its_plan_holds() -> None:
    model = Net()
    plan = ict.plan(model, seed=7)
    report = ict.init_(model, plan)
    state = model.state_dict()
    weights = ic.fetch(plan)
    assert list(weights) == list(state) == list(report.filled)
    for name, values in weights.items():
        assert np.array_equal(state[name].numpy(), values), name
    assert (report.computed, report.kept) == (("rotary.inv_freq",), ())
    assert "filled" not in repr(report)


@pytest.mark.parametrize("rotary", [Resetting, Replacing])
def test_a_model_on_meta_becomes_the_same(rotary: type[Rotary]) -> None:
    plain, meta = Net(rotary), on_meta(Net, rotary)
    plan = ict.plan(meta, seed=7)
    assert plan == ict.plan(plain, seed=7)
    ict.init_(plain, plan)
    state = torch.get_rng_state()
    assert ict.init_(meta, plan).computed == ("rotary.inv_freq",)
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal(meta, plain)
    assert meta.head.weight is meta.embed.weight
    meta.rnn(torch.zeros(2, 1, 8))


def test_a_model_that_initializes_module_by_module_computes_its_buffers() -> None:
    model = on_meta(Calling, Rotary)
    plan = ict.plan(model, [ict.rule("*", ic.zeros)])
    assert ict.init_(model, plan).computed == ("rotary.inv_freq",)
    assert torch.equal(model.rotary.inv_freq, model.rotary.frequencies())


@pytest.mark.parametrize("rotary", [Rotary, Random, Failing])
def test_a_buffer_that_nobody_computes_is_named_and_can_be_given(rotary: type[Rotary]) -> None:
    model = on_meta(Net, rotary)
    plan = ict.plan(model)
    with pytest.raises(ic.PlanError, match=r"'rotary.inv_freq': values: .* init_\(..., values="):
        ict.init_(model, plan)
    values = model.rotary.frequencies()
    model = on_meta(Net, rotary)
    assert ict.init_(model, plan, values={"rotary.inv_freq": values}).given == ("rotary.inv_freq",)
    assert torch.equal(model.rotary.inv_freq, values)


def test_what_to_empty_left_behind_is_computed_too() -> None:
    model = on_meta(Net).to_empty(device="cpu")
    with torch.no_grad():
        model.rotary.inv_freq.fill_(torch.nan)
    assert ict.init_(model, ict.plan(model)).computed == ("rotary.inv_freq",)
    assert torch.equal(model.rotary.inv_freq, model.rotary.frequencies())


@pytest.mark.parametrize("rotary", [Rotary, Random, Failing])
def test_what_nobody_computes_stays_as_it_is(rotary: type[Rotary]) -> None:
    model = Net(rotary)
    buffer = model.rotary.inv_freq
    report = ict.init_(model, ict.plan(model))
    assert (report.computed, report.kept) == ((), ("rotary.inv_freq",))
    assert model.rotary.inv_freq is buffer
    assert torch.equal(buffer, model.rotary.frequencies())


def test_what_has_memory_keeps_it_and_what_is_attached_stays() -> None:
    model = Net()
    model.to("cpu")
    model.norm.to("meta")
    model.norm.weight.sequence_parallel = True  # type: ignore[attr-defined]
    before = model.embed.weight
    frequencies = model.rotary.inv_freq
    ict.init_(model, ict.plan(model))
    assert model.embed.weight is before
    assert model.rotary.inv_freq is frequencies
    assert model.norm.weight.sequence_parallel
    assert torch.equal(model.norm.running_var, torch.ones(8))


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
)
def test_every_element_type_arrives_bit_for_bit(dtype: torch.dtype) -> None:
    model = nn.Linear(33, 17).to(dtype)
    plan = ict.plan(model, seed=7)
    ict.init_(model, plan)
    for name, values in ic.fetch(plan).items():
        bits = values.view(f"i{values.itemsize}")
        ours = model.get_parameter(name).detach().view(getattr(torch, f"int{values.itemsize * 8}"))
        assert np.array_equal(ours.numpy(), bits)


def test_parameters_in_another_memory_format_get_the_same_values() -> None:
    plain, last = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    plan = ict.plan(plain)
    ict.init_(plain, plan)
    ict.init_(last, plan)
    assert torch.equal(plain.weight, last.weight)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_part_of_a_model_takes_its_part_of_the_full_models_plan() -> None:
    full, stage = Net(), Net()
    plan = ict.plan(full)
    ict.init_(full, plan)
    del stage.embed, stage.norm, stage.rnn
    report = ict.init_(stage, plan, partial=True)
    assert report.filled == ("head.weight",)
    assert set(report.absent) == set(plan.tensors) - {"head.weight"}
    assert torch.equal(stage.head.weight, full.embed.weight)


def test_a_model_that_lacks_something_has_to_be_said_to_be_a_part() -> None:
    stage = Net()
    plan = ict.plan(stage)
    del stage.norm
    before = stage.head.weight.clone()
    with pytest.raises(ic.PlanError) as caught:
        ict.init_(stage, plan)
    assert "'norm.weight': name: the plan has this tensor, like 4 others, and" in str(caught.value)
    assert "partial=True" in str(caught.value)
    assert torch.equal(stage.head.weight, before)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each piece, as they are made."""
    from initclient.torch import _filling

    sizes = []
    fill, fill_all = VirtualFile.fill, VirtualFile.fill_all

    def noted(self: VirtualFile, entry: Any, out: Any, *, first: int = 0) -> None:
        sizes.append(out.nbytes)
        fill(self, entry, out, first=first)

    def all_noted(self: VirtualFile, pairs: Any) -> None:
        pairs = list(pairs)
        sizes.extend(out.nbytes for _, out in pairs)
        fill_all(self, pairs)

    monkeypatch.setattr(VirtualFile, "fill", noted)
    monkeypatch.setattr(VirtualFile, "fill_all", all_noted)
    monkeypatch.setattr(_filling, "_STAGED_BYTES", 5000)
    return sizes


def test_tensors_in_order_are_made_where_they_lie_each_at_once(made: list[int]) -> None:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3)))
    ict.init_(model, ict.plan(model))
    assert made == [4 * 64 * 64, 4 * 64] * 3


def test_tensors_in_strides_are_staged_piece_by_piece(made: list[int]) -> None:
    strided = nn.Linear(40, 90)
    strided.weight = nn.Parameter(torch.empty(40, 90).T)
    conv = nn.Conv2d(70, 6, 3).to(memory_format=torch.channels_last)
    model = nn.Sequential(strided, conv)
    plan = ict.plan(model, [ict.rule("0.weight", ic.orthogonal)])
    ict.init_(model, plan)
    assert len(made) > 6
    assert max(made) <= 5000
    assert sum(made) == 4 * (90 + 6 + 90 * 40 + 6 * 70 * 9)
    weights = ic.fetch(plan)
    for name, parameter in model.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), weights[name]), name
    assert not model[0].weight.is_contiguous()


def test_autograd_sees_that_weights_have_changed() -> None:
    model = nn.Linear(3, 3, bias=False)
    plan = ict.plan(model)
    loss = (model.weight**2).sum()
    ict.init_(model, plan)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_backend_is_chosen_for_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from initclient._source import request
    from initcore.backends import selection

    sizes = []

    def noted(name: str | None, elements: int) -> Any:
        sizes.append(elements)
        return selection.select(name, elements)

    monkeypatch.setattr(request, "select", noted)
    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(3)))
    ict.init_(model, ict.plan(model))
    assert sizes == [3 * 1056]


def wrong_plan(**changes: ic.Tensor) -> ic.Plan:
    plan = ict.plan(Net())
    return ic.Plan({**plan.tensors, **changes})


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (wrong_plan(**{"norm.weight": ic.ones((9,))}), "shape: is [9] in the plan and [8] in the"),
        (
            wrong_plan(**{"norm.bias": ic.ones((8,), dtype="BF16")}),
            "dtype: is BF16 in the plan and",
        ),
        (wrong_plan(**{"head.weight": ic.normal((13, 8))}), "stream: is tied to 'embed.weight' in"),
        (ic.Plan(), "name: the model has this parameter and the plan does not"),
    ],
)
def test_a_plan_of_another_model_is_refused_before_anything_changes(
    plan: ic.Plan, text: str
) -> None:
    model = Net()
    before = [tensor.clone() for tensor in model.state_dict().values()]
    with pytest.raises(ic.PlanError) as caught:
        ict.init_(model, plan)
    assert text in str(caught.value)
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_values_must_be_for_something_in_the_model() -> None:
    model = Net()
    plan = ict.plan(model)
    for name, text in (("rotary.freq", "model has no parameter"), ("norm.bias", "the shape [4]")):
        with pytest.raises(ic.PlanError) as caught:
            ict.init_(model, plan, values={name: torch.zeros(4)})
        assert f"'{name}': values: " in str(caught.value)
        assert text in str(caught.value)


def test_parameters_that_are_computed_and_not_drawn_are_given() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
    plan = ict.plan(model, [ict.rule("0.weight", ict.given)])
    assert list(plan.tensors) == ["1.weight", "1.bias"]
    with pytest.raises(ic.PlanError, match=r"'0.weight': name: the model has this parameter and"):
        ict.init_(model, plan)
    positions = torch.arange(20.0).view(5, 4)
    report = ict.init_(model, plan, values={"0.weight": positions})
    assert (report.given, report.filled) == (("0.weight",), ("1.weight", "1.bias"))
    assert torch.equal(model[0].weight, positions)


def test_tensors_made_of_others_fill_models_too() -> None:
    def fused(shape: tuple[int, ...], **common: Any) -> ic.Tensor:
        rows = shape[0] // 3
        names = [f"{name}.weight" for name in "qkv"]
        return ic.concatenate(
            {name: ic.normal((rows, shape[1]), stream=name, **common) for name in names}
        )

    model = nn.Sequential(nn.Linear(8, 12, bias=False), nn.Linear(8, 12, bias=False))
    model[1].weight = model[0].weight
    plan = ict.plan(model, [ict.rule("*", fused)], seed=7)
    ict.init_(model, plan)
    assert np.array_equal(model[0].weight.detach().numpy(), ic.fetch(plan)["1.weight"])
    alone = ic.fetch({"k.weight": ic.normal((4, 8))}, seed=7)
    assert np.array_equal(model[1].weight.detach().numpy()[4:8], alone["k.weight"])


def test_the_exports() -> None:
    assert set(ict.__all__) == {
        "Engine",
        "Flow",
        "InitReport",
        "Initializer",
        "LayerFlow",
        "Layout",
        "Piece",
        "PlanReader",
        "Recording",
        "Rule",
        "Slot",
        "fingerprints",
        "flow",
        "given",
        "init_",
        "keep",
        "lsuv",
        "plan",
        "record",
        "rule",
        "verify",
    }


def test_values_reach_every_name_of_a_tied_tensor() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    plan = ict.plan(model, seed=1)
    values = torch.arange(20.0).view(5, 4)
    report = ict.init_(model, plan, values={"1.weight": values})
    assert torch.equal(model[0].weight, values)
    assert set(report.given) == {"0.weight", "1.weight"}
    assert not report.filled


@pytest.mark.parametrize("value", [np.zeros((5, 4)), [0.0]])
def test_a_value_that_is_no_tensor_is_named_before_anything_changes(value: Any) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(5, 4))
    with pytest.raises(TypeError, match=r"the value of '0.weight' is a .*; give a torch.Tensor"):
        ict.init_(model, ict.plan(model), device="cpu", values={"0.weight": value})
    assert model[0].weight.is_meta


def test_a_given_parameter_that_lies_in_a_planned_one_is_refused() -> None:
    base = torch.zeros(8, 4)
    model = nn.ParameterDict({"a": nn.Parameter(base[:4]), "b": nn.Parameter(base)})
    plan = ic.Plan({"a": ic.normal((4, 4)), "b": ic.normal((8, 4))})
    with pytest.raises(ic.PlanError, match="which is another parameter, and one of them is given"):
        ict.init_(model, plan, values={"a": torch.ones(4, 4)})
    assert not base.any()


def test_a_plan_s_slices_do_not_decide_which_part_is_filled() -> None:
    model = nn.Linear(4, 4)
    plan = ict.plan(model, seed=1)
    ict.init_(model, plan.shard({"weight": slice(0, 2)}), "local")
    for name, values in ic.fetch(plan, target="local", framework="torch").items():
        assert torch.equal(model.state_dict()[name], values), name
