"""Wrong rules are refused where they enter, in files, torch and JAX alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen
import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

TREE = {"weight": jax.ShapeDtypeStruct((4, 4), jnp.float32)}
ZEROS = ic.zeros


@pytest.fixture(params=["file", "torch", "jax"])
def planned(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Callable[..., ic.Plan]]:
    """The function that makes rules, and one that plans a weight of [4, 4] by them."""
    if request.param == "torch":
        return ict.rule, lambda rules: ict.plan(nn.Linear(4, 4, bias=False), rules)
    if request.param == "jax":
        return icj.rule, lambda rules: icj.plan(TREE, rules)
    path = tmp_path / "trained.safetensors"
    ic.fetch_file({"weight": ic.ones((4, 4))}, path, target="local")
    return ic.rule, lambda rules: ic.plan_from_safetensors(path, rules)


@pytest.mark.parametrize(
    "made",
    [
        lambda shape, dtype: ic.zeros((2, 2), dtype=dtype),
        lambda shape, dtype: ic.zeros((16,), dtype=dtype),
        lambda shape, dtype: ic.zeros((*shape, 1), dtype=dtype),
        lambda shape, dtype: ic.stack({"a": ic.normal(shape, dtype=dtype)}),
        lambda shape, dtype: ic.zeros((3, 4), dtype=dtype),
    ],
)
def test_a_function_that_makes_another_shape_is_refused(planned: Any, made: Any) -> None:
    rule, plan = planned
    wrong = re.escape(str(list(made((4, 4), "F32").shape)))
    text = rf"tensor 'weight': shape: is {wrong} by rule\('weight', .*whose function got \[4, 4\]"
    with pytest.raises(ic.PlanError, match=text):
        plan([rule("weight", made)])


@pytest.mark.parametrize(
    ("initializer", "library"),
    [
        (nn.init.zeros_, "torch's zeros_"),
        (torch.zeros, "torch's zeros"),
        (jax.nn.initializers.zeros, "jax's zeros"),
        (jax.nn.initializers.normal(0.02), "jax's init"),
        (jnp.zeros, "jax's zeros"),
        (flax.linen.initializers.lecun_normal(), "jax's init"),
        (np.zeros, "numpy's zeros"),
    ],
)
def test_initializers_of_other_libraries_are_answered_with_a_builder(
    planned: Any, initializer: Any, library: str
) -> None:
    rule, _ = planned
    with pytest.raises(TypeError, match=f"is {library}, which makes arrays; give the builder"):
        rule("weight", initializer)


@pytest.mark.parametrize("values", [np.zeros((4, 4)), None, torch.zeros(4, 4)])
def test_a_function_that_makes_no_tensor_is_refused_without_its_values(
    planned: Any, values: Any
) -> None:
    rule, plan = planned
    text = f"does not fit weight: the initializer returned a {type(values).__name__}, which is no"
    with pytest.raises(TypeError, match=text):
        plan([rule("weight", lambda shape, dtype: values)])


@pytest.mark.parametrize("rules", [3, None, ZEROS])
def test_rules_are_a_list(planned: Any, rules: Any) -> None:
    rule, plan = planned
    for wrong in (rules, rule("weight", ic.zeros)):
        with pytest.raises(TypeError, match=r"the rules are .*; give a list of rules, such as \["):
            plan(wrong)


def test_an_element_type_that_is_none_is_one_line() -> None:
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(nn.Sequential(*(nn.Linear(4, 4) for _ in range(50))), dtype="float8")
    assert len(caught.value.violations) == 1


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (nn.Linear, "the class Linear"),
        (nn.Linear(9, 9).state_dict(), "OrderedDict"),
        (None, "None"),
    ],
)
def test_what_is_no_model_is_named_by_its_kind(model: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"^the model is {kind}.*; give a torch.nn.Module$"):
        ict.plan(model)


def test_only_is_a_glob_or_several() -> None:
    with pytest.raises(TypeError, match="only is 3; give a glob for names, or a list of them"):
        ict.plan(nn.Linear(4, 4), only=3)  # type: ignore[arg-type]


def test_a_plan_of_traced_arrays_is_that_of_their_shapes() -> None:
    plans = []

    @jax.jit
    def step(tree: Any) -> Any:
        plans.append(icj.plan(tree, [icj.rule("*", ic.zeros)], seed=7))
        return tree

    step({"weight": jnp.ones((4, 4))})
    assert plans == [icj.plan(TREE, [icj.rule("*", ic.zeros)], seed=7)]


class Spectral(nn.Module):
    """A layer of a Fourier neural operator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.modes = nn.Parameter(torch.rand(4, 4, 3, dtype=torch.cfloat) / 16)


@pytest.mark.parametrize("rules", [[], [ict.rule("modes", ic.zeros)]])
@pytest.mark.parametrize("is_recorded", [False, True])
def test_a_complex_parameter_is_refused_with_what_to_do(
    is_recorded: bool, rules: list[Any]
) -> None:
    model = ict.record(Spectral) if is_recorded else Spectral()
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(model, rules)
    (refused,) = caught.value.violations
    assert (refused.tensor, refused.field) == ("modes", "dtype")
    assert refused.message.startswith("is complex64, and a plan has real numbers only")
    # What the message says makes a plan of the rest.
    plan = ict.plan(model, [ict.rule("modes", ict.keep)])
    assert list(plan) == ["body.weight", "body.bias"]


def test_keep_leaves_a_complex_parameter_as_the_models_code_made_it() -> None:
    model = Spectral()
    before = model.modes.detach().clone()
    ict.init_(model, ict.plan(model, [ict.rule("modes", ict.keep)], seed=3))
    assert torch.equal(model.modes, before)
