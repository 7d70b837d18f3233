"""init_ names tensors that stay on meta, where torch computes garbage with them silently."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn


class Transform(nn.Module):
    """Has a table that is no buffer."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.table = torch.eye(4) * 2
        for name, value in attributes.items():
            setattr(self, name, value)


def told(model: nn.Module) -> str:
    plan = ict.plan(model)
    with pytest.warns(ic.PlanWarning) as caught:
        ict.init_(model, plan, "local", device="cpu")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    return str(caught[0].message)


def test_an_attribute_that_stays_on_meta_is_named_with_the_remedy() -> None:
    recording = ict.record(Transform)
    with pytest.warns(ic.PlanWarning, match=r"table of Transform: .*persistent=False") as caught:
        ict.init_(recording.model, recording, seed=1, device="cpu")
    assert [one.filename for one in caught] == [__file__]


def test_an_attribute_is_named_by_the_modules_down_to_it() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({"layers": nn.Sequential(Transform(), Transform())})
    text = told(torch.compile(model, backend="eager"))
    assert text.startswith("layers.0.table of Transform, layers.1.table of Transform: ")


def test_tensors_in_lists_tuples_and_dicts_are_named_and_only_the_first_few() -> None:
    with torch.device("meta"):
        one = torch.zeros(2)
        model = Transform(table=None, all=[3, one], pairs=((one, None),), by=OrderedDict(cos=one))
        model.more = [one] * 2
    text = told(model)
    assert text.startswith(
        "all[1] of Transform, pairs[0][0] of Transform, by['cos'] of Transform and 2 more: "
    )


def test_a_model_that_was_moved_by_to_empty_is_told_too() -> None:
    with torch.device("meta"):
        model = Transform()
    assert "table of Transform" in told(model.to_empty(device="cpu"))


def test_a_module_in_two_places_is_told_once() -> None:
    with torch.device("meta"):
        block = Transform()
        model = nn.Sequential(block, block)
    assert told(model).startswith("0.table of Transform: ")


def test_what_code_computes_before_each_forward_is_not_told() -> None:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(
            nn.utils.weight_norm(nn.Linear(4, 4)),  # type: ignore[no-untyped-call]
            nn.LSTM(4, 4),
        )
        model.append(Transform(table=None, cache=[], states={}, layers=(), seen=[None, 1, "x"]))
    rules = [ict.rule(f"0.weight_{part}", ic.normal) for part in "gv"]
    ict.init_(model, ict.plan(model, rules), "local", device="cpu")
    assert model[0](torch.ones(1, 4)).isfinite().all()


def test_attributes_of_a_model_with_memory_are_not_told() -> None:
    model = Transform()
    ict.init_(model, ict.plan(model), "local")
    assert torch.equal(model.table, torch.eye(4) * 2)
