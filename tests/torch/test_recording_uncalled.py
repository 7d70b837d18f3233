"""A recording without a call of the model's own init_weights says so."""

from __future__ import annotations

import warnings
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
from torch import nn


class Later(nn.Module):
    """As in torchtitan: its trainer calls init_weights after the constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4, bias=False)

    def init_weights(self, std: float = 0.5) -> None:
        nn.init.normal_(self.inner.weight, std=std)


class AtOnce(Later):
    def __init__(self) -> None:
        super().__init__()
        self.init_weights()


class Around(nn.Module):
    """Its constructor initializes a part, by the part's own method."""

    def __init__(self, kind: type[Later], *, calls: bool) -> None:
        super().__init__()
        self.part = kind()
        if calls:
            self.part.init_weights()


class EachModule(nn.Module):
    """A function for apply of the same name, which is for one module and not for the model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def init_weights(self, module: nn.Module) -> None:
        nn.init.zeros_(module.weight)  # type: ignore[arg-type]


def make() -> nn.Module:
    model = Later()
    model.init_weights()
    return model


def warned(build: Any, *rules: ict.Rule) -> list[str]:
    recording = ict.record(build)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recording.plan(rules=rules)
    return [str(one.message) for one in caught if "init_weights of its own" in str(one.message)]


@pytest.mark.parametrize(
    "build",
    [Later, lambda: nn.Sequential(nn.Linear(2, 2), Later()), lambda: Around(Later, calls=False)],
)
def test_a_constructor_alone_is_one_warning(build: Any) -> None:
    (text,) = warned(build)
    assert text.startswith("Later has an init_weights of its own, which the recorded code does not")
    assert "record a function that builds the model and calls it" in text


@pytest.mark.parametrize(
    "build",
    [make, AtOnce, lambda: Around(Later, calls=True), EachModule, lambda: nn.Transformer(4, 2)],
)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_what_calls_it_or_has_none_is_no_warning(build: Any) -> None:
    assert not warned(build)


def test_the_method_of_a_model_and_rules_for_everything_are_no_warning() -> None:
    assert not warned(Later().init_weights)
    assert not warned(Later, ict.rule("*", ic.ones))


def test_a_recording_leaves_the_classes_as_they_were() -> None:
    before = dict(vars(Later)), dict(vars(AtOnce))
    ict.record(AtOnce)
    ict.record(Later)
    runs = iter((Later, None))
    with pytest.raises(TypeError, match="not callable"):
        ict.record(lambda: next(runs)())  # type: ignore[misc]
    assert (dict(vars(Later)), dict(vars(AtOnce))) == before
    assert ict.record(make).plan().tensors["inner.weight"].std == 0.5


def test_the_line_that_a_plan_shows_is_one_that_draws_what_the_model_does() -> None:
    with pytest.raises(ic.PlanError, match=r"ict\.record\(make\)\.plan.*, where make\(\) builds"):
        ict.plan(Later())
    with pytest.raises(ic.PlanError, match=r"ict\.record\(EachModule, \.\.\.\)\.plan"):
        ict.plan(EachModule())
