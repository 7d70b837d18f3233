"""A recipe that repeats torch's defaults says so where the model initializes its weights itself."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import transformers
from initclient.torch._planning.doubts import some
from torch import nn

from tests.torch.draws import DEPRECATED

pytestmark = DEPRECATED

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64, "num_attention_heads": 4}


def falcon() -> nn.Module:
    with torch.device("meta"):
        return transformers.FalconForCausalLM(transformers.FalconConfig(**SIZES))


class OwnWay(nn.Module):
    """A model that draws its weights in a method of its own, as those of torchtitan do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 4), nn.LayerNorm(4))

    def init_weights(self) -> None:
        nn.init.normal_(self.body[1].weight, std=0.02)


def copied(folder: Path, models: str = "") -> Path:
    """The recipe torch as a file of one's own."""
    from importlib.resources import files

    text = (files("initclient.recipes") / "torch.yaml").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("repeats:")]
    path = folder / "own.yaml"
    path.write_text("\n".join([*lines, models]))
    return path


def warned(model: nn.Module, *rules: ict.Rule, **rest: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ict.plan(model, rules, **rest)
    texts = [str(one.message) for one in caught if one.category is ic.PlanWarning]
    return [text for text in texts if "initializes its weights itself" in text]


@pytest.mark.parametrize(
    ("make", "whose", "line"),
    [
        (falcon, r"FalconForCausalLM (_init_weights)", "ict.record(FalconForCausalLM, config)"),
        (OwnWay, r"OwnWay (init_weights)", "ict.record(make)"),
    ],
)
@pytest.mark.parametrize("way", ["torch", "a copy", "wrapped"])
def test_the_defaults_of_torch_are_one_warning_whichever_way_they_come(
    make: Any, whose: str, line: str, way: str, tmp_path: Path
) -> None:
    recipe = copied(tmp_path) if way == "a copy" else "torch"
    model = nn.ModuleDict({"inner": make()}) if way == "wrapped" else make()
    (text,) = warned(model, recipe=recipe)
    assert text.startswith(f"{whose} initializes its weights itself, which this plan does not rep")
    assert "got the default of torch's module instead. Add rules for them, or record" in text
    if way != "wrapped":
        assert f"or record that code: {line}.plan(seed=0)" in text


def test_the_names_of_the_warning_are_those_that_are_refused_without_the_recipe() -> None:
    (text,) = warned(falcon(), recipe="torch")
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(falcon())
    refused = [one.tensor for one in caught.value.violations]
    assert "transformer.word_embeddings.weight" in refused
    assert f"; {some(refused)} got the default" in text


def test_a_recipe_that_lists_the_class_is_meant(tmp_path: Path) -> None:
    assert not warned(OwnWay(), recipe=copied(tmp_path, "models: {OwnWay: [OwnWay]}"))


def test_a_recipe_that_draws_something_else_is_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    start = "summary: ours\nsource: a test\nrules:\n"
    linear = "  - {type: Linear, parameter: weight, scheme: kaiming_uniform, a: sqrt(5)}\n"
    path.write_text(f"{start}{linear}  - {{type: Embedding, scheme: normal, std: 0.02}}\n")
    zeros = ict.rule("*.bias", ic.zeros)
    assert not warned(OwnWay(), zeros, recipe=path)
    path.write_text(f"{start}{linear}  - {{type: Embedding, scheme: normal}}\n")
    (text,) = warned(OwnWay(), zeros, recipe=path)
    assert "body.0.weight, body.1.weight got the default" in text


@pytest.mark.parametrize(
    ("make", "recipe"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), "torch"),
        (OwnWay, "zero"),
        (lambda: nn.Transformer(4, 2, 1, 1, 8, batch_first=True), "torch"),
    ],
)
def test_torchs_own_models_and_constants_are_no_guess(make: Any, recipe: str) -> None:
    rules = [ict.rule(nn.Embedding, ic.normal, std=0.02)] if make is OwnWay else []
    assert not warned(make(), *rules, recipe=recipe)


def test_rules_of_ones_own_before_the_recipe_are_a_choice() -> None:
    rules = [ict.rule("*.weight", ic.normal, std=0.02), ict.rule("*.bias", ic.zeros)]
    assert not warned(OwnWay(), ict.rule("body.2.*", ic.ones), *rules, recipe="torch")
    (text,) = warned(OwnWay(), ict.rule("*.1.weight", ic.normal, std=0.02), recipe="torch")
    assert "itself, which this plan does not repeat; body.0.weight, body.1.bias got" in text
