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


class EachStatic(nn.Module):
    """Such a function as a static method, which the constructor applies."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.25)


class Both(nn.Module):
    """Two parts, one of a class and one of a subclass of it, of which the second is initialized."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Later(), Below()
        self.second.init_weights()


class Below(Later):
    pass


def make() -> nn.Module:
    model = Later()
    model.init_weights()
    return model


def of_a_class_within(*, calls: bool) -> nn.Module:
    """Each run has a class of its own."""

    class Within(Later):
        def init_weights(self, std: float = 0.1) -> None:
            super().init_weights(std)

    model = Within()
    if calls:
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
    [
        make,
        AtOnce,
        lambda: Around(Later, calls=True),
        EachModule,
        EachStatic,
        lambda: of_a_class_within(calls=True),
        lambda: nn.Transformer(4, 2),
    ],
)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_what_calls_it_or_has_none_is_no_warning(build: Any) -> None:
    assert not warned(build)


def test_a_static_method_of_this_name_is_called_as_without_a_recording() -> None:
    assert ict.record(EachStatic).plan().tensors["inner.weight"].val == 0.25


def test_each_class_of_a_model_counts_for_itself() -> None:
    (text,) = warned(Both)
    assert text.startswith("Later has")
    (text,) = warned(lambda: of_a_class_within(calls=False))
    assert text.startswith("Within has")


def test_the_method_of_a_model_and_rules_for_everything_are_no_warning() -> None:
    assert not warned(Later().init_weights)
    assert not warned(Later, ict.rule("*", ic.ones))


def test_a_recording_leaves_the_classes_as_they_were() -> None:
    before = [dict(vars(kind)) for kind in (Later, AtOnce, nn.Module)]
    ict.record(AtOnce)
    ict.record(Later)
    runs = iter((Later, None))
    with pytest.raises(TypeError, match="not callable"):
        ict.record(lambda: next(runs)())  # type: ignore[misc]
    assert [dict(vars(kind)) for kind in (Later, AtOnce, nn.Module)] == before
    assert ict.record(make).plan().tensors["inner.weight"].std == 0.5


def test_the_line_that_a_plan_shows_is_one_that_draws_what_the_model_does() -> None:
    with pytest.raises(ic.PlanError, match=r"ict\.record\(make\)\.plan.*, where make\(\) builds"):
        ict.plan(Later())
    with pytest.raises(ic.PlanError, match=r"builds the model, calls Later\.init_weights and "):
        ict.plan(nn.Sequential(nn.Linear(2, 2), Later()))
    with pytest.raises(ic.PlanError, match=r"ict\.record\(EachModule, \.\.\.\)\.plan"):
        ict.plan(EachModule())
    with pytest.raises(ic.PlanError, match=r"ict\.record\(EachStatic, \.\.\.\)\.plan"):
        ict.plan(EachStatic())
