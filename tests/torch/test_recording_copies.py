"""Draws that several tensors hold, and norms of tensors: a recording keeps them together."""

from __future__ import annotations

import copy
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from tests.torch.recordings import CPU_AND_META


def bert() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=50, intermediate_size=48, **sizes)
    return transformers.BertForMaskedLM(config)


def test_a_constructor_and_a_rerun_are_recorded_as_what_each_of_them_does() -> None:
    """A rerun of the initialization of a tied BERT need not do what the constructor did."""
    constructed = ict.record(bert).plan().tensors["cls.predictions.decoder.weight"]
    assert (constructed.scheme, constructed.zero_rows) == ("normal", (0,))

    def rerun() -> nn.Module:
        model = bert()
        nn.init.normal_(model.cls.predictions.decoder.weight, std=0.02)
        return model

    again = ict.record(rerun).plan().tensors["cls.predictions.decoder.weight"]
    assert (again.scheme, again.zero_rows) == ("normal", None)


def test_a_write_to_the_computed_weight_of_weight_norm_writes_to_a_temporary() -> None:
    def build() -> nn.Module:
        layer = nn.Conv1d(4, 8, 3)
        normed = nn.utils.parametrizations.weight_norm(layer)
        nn.init.normal_(normed.weight, std=100.0)
        return normed

    tensors = ict.record(build).plan().tensors
    direction = tensors["parametrizations.weight.original1"]
    assert (direction.scheme, direction.b) == ("uniform", pytest.approx(12**-0.5))
    length = tensors["parametrizations.weight.original0"]
    assert length.parts == (("parametrizations.weight.original1", direction),)


def test_a_norm_follows_the_rule_for_what_it_is_the_norm_of() -> None:
    recording = ict.record(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)))
    name = "parametrizations.weight.original"
    for rules in ([], [ict.rule("*original1", ic.normal, std=3.0)]):
        values = ic.fetch(recording.plan(seed=1, rules=rules), target="local")
        wanted = np.linalg.norm(values[f"{name}1"], axis=1, keepdims=True)
        assert values[f"{name}0"] == pytest.approx(wanted)
    with pytest.raises(ic.PlanError, match=r"original0.*is the norm of .*original1, which"):
        recording.plan(rules=[ict.rule("*original1", ict.given)])


@CPU_AND_META
def test_layers_that_are_deep_copies_share_their_draws(device: str) -> None:
    layer = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}
    plan = ict.record(
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), 2), device=device
    ).plan(seed=3)
    values = ic.fetch(plan, target="local")
    names = [name.removeprefix("layers.0.") for name in plan if name.startswith("layers.0.")]
    assert len(names) == 12
    for name in names:
        assert (values[f"layers.0.{name}"] == values[f"layers.1.{name}"]).all(), name
    torch.manual_seed(0)
    plain = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), 2)
    assert torch.equal(plain.layers[0].linear1.weight, plain.layers[1].linear1.weight)


def test_a_rule_for_one_of_two_copies_leaves_the_other_its_own_draw() -> None:
    layer = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}
    recording = ict.record(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), 3))
    rules = [ict.rule("layers.0.linear1.weight", ic.uniform, a=-1, b=1)]
    values = ic.fetch(recording.plan(seed=3, rules=rules), target="local")
    first, second, third = (values[f"layers.{i}.linear1.weight"] for i in range(3))
    assert (second == third).all()
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3


def test_a_deep_copy_of_a_tensor_that_is_no_parameter_is_a_copy_too() -> None:
    class Copied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            drawn = torch.randn(4)
            self.register_buffer("one", drawn)
            self.register_buffer("two", copy.deepcopy(drawn))

    for device in ("meta", "cpu"):
        tensors = ict.record(Copied, device=device).plan().tensors
        assert tensors["two"].stream == "one"


@CPU_AND_META
def test_parameters_that_share_memory_share_their_draw(device: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = nn.Linear(3, 3, bias=False)
            self.three = nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight
            self.three.weight = nn.Parameter(self.one.weight.data)

    tensors = ict.record(Tied, device=device).plan().tensors
    assert tensors["two.weight"].stream == tensors["three.weight"].stream == "one.weight"


def test_parts_of_one_draw_in_two_parameters_are_apart_and_overlaps_are_refused() -> None:
    class Parts(nn.Module):
        def __init__(self, first: slice, second: slice, scale: float = 1.0) -> None:
            super().__init__()
            drawn = torch.randn(8, 4)
            self.one = nn.Parameter(drawn[first].clone())
            self.two = nn.Parameter(drawn[second] * scale)

    tensors = ict.record(Parts, slice(0, 4), slice(4, 8)).plan().tensors
    assert tensors["one"].stream is tensors["two"].stream is None
    with pytest.raises(ic.PlanError, match=r"'two'.*holds draws of one too"):
        ict.record(Parts, slice(0, 4), slice(3, 7)).plan()
    with pytest.raises(ic.PlanError, match=r"'two'.*holds draws of one too"):
        ict.record(Parts, slice(0, 8), slice(0, 8), -1.0).plan()
