"""What is missing or is no number where one was meant is refused, and said once."""

from __future__ import annotations

import inspect
from typing import Any

import initcore as ic
import pytest
from initcore import Plan, PlanError, Violation
from initcore.plan.schemes import REQUIRED, SCHEMES
from initcore.wire import parse_plan

DEFAULTS = [
    (scheme, name, default)
    for scheme, its in SCHEMES.items()
    for name, default in its.arguments.items()
    if default is not None and default is not REQUIRED and its.draws
]


def test_there_are_such_arguments() -> None:
    assert len(DEFAULTS) > 30


@pytest.mark.parametrize(("scheme", "name", "default"), DEFAULTS)
def test_none_is_not_taken_for_the_default(scheme: str, name: str, default: Any) -> None:
    """`std=config.get("std")` drew with std 1."""
    builder = getattr(ic, scheme)
    needed = {
        one.name: 0.5
        for one in inspect.signature(builder).parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    }
    needed |= {"shape": (4, 4), name: None}
    with pytest.raises(PlanError) as caught:
        builder(**needed)
    (violation,) = caught.value.violations
    assert violation.field == name
    assert (
        violation.message == f"is None; give a value, or leave {name} out, which means {default!r}"
    )


@pytest.mark.parametrize("tensors", [[ic.zeros((2,))], ic.zeros((2,)), "w", 3, ["w"], None])
def test_the_tensors_of_a_plan_are_a_dict(tensors: Any) -> None:
    with pytest.raises(TypeError, match=r"the tensors of a plan are a .*; give a dict from names"):
        Plan(tensors)


def test_pairs_of_names_and_tensors_are_a_dict_too() -> None:
    pair = ("w", ic.zeros((2,)))
    assert Plan([pair]) == Plan(dict([pair]))  # type: ignore[arg-type]


def test_one_fault_of_many_tensors_is_said_once() -> None:
    one, other = Violation("", "dtype", "is wrong"), Violation("w", "dtype", "is wrong")
    error = PlanError([one, other, one, one])
    assert error.violations == (one, other)
    assert str(error) == "dtype: is wrong\ntensor 'w': dtype: is wrong"


def std(text: str) -> str:
    return f"seed: 7\ntensors:\n- {{name: w, shape: [4], scheme: normal, std: {text}}}\n"


@pytest.mark.parametrize("text", ["1e-400", "1.0e-400", "-2e-999", "0.000_1e-400", "+.5e-400"])
def test_a_number_that_no_double_can_tell_from_0_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match=r"line 3: tensor 'w': std: is .*"):
        parse_plan(std(text))
    if "_" not in text:
        with pytest.raises(PlanError, match=r"which a double rounds to 0; write 0 if it is meant$"):
            parse_plan(std(text))


@pytest.mark.parametrize("text", ["0", "0.0", "0e5", "0.00e-400", "-0.0", "5e-324", "4.9e-324"])
def test_zeros_and_the_smallest_doubles_are_numbers(text: str) -> None:
    assert parse_plan(std(text))["w"].std == float(text)


@pytest.mark.parametrize(
    "text", ["\t- {name: w, shape: [2], scheme: zeros}", "- name: w\n\tshape: [2]"]
)
def test_a_tab_is_named(text: str) -> None:
    with pytest.raises(PlanError, match=r"^line \d: file: .*: a tab, where YAML takes only spaces"):
        parse_plan(f"seed: 7\ntensors:\n{text}\n")


@pytest.mark.parametrize("name", ["gelu", "SiLU", "swish", "elu", "mish", "GLU"])
def test_no_other_nonlinearity_is_suggested_for_one_without_a_gain(name: str) -> None:
    fields = f"shape: [4, 4], scheme: kaiming_normal, nonlinearity: {name}"
    with pytest.raises(PlanError, match=f"nonlinearity: '{name}' is not known: use one of LINEAR"):
        parse_plan(f"tensors:\n- {{name: w, {fields}}}\n")
