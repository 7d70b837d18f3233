"""Arguments of recipes and the shapes of models are taken in any library's form, as builders do."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import initclient as ic
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from initclient import recipes

GPT2 = [("h.0.c_proj.weight", (3, 3), "F32"), ("h.1.c_proj.weight", (3, 3), "F32")]
MUP = [("a.weight", (8, 8), "F32"), ("lm_head.weight", (4, 8), "F32")]


def planned(**arguments: Any) -> ic.Plan:
    return recipes.plan(GPT2, "gpt2", recipe_arguments=arguments)


# As Python's own numbers, and as those of each library: all that hold the value exactly.
KINDS: dict[str, Any] = {
    "numpy scalar": np.float64,
    "numpy.longdouble": np.longdouble,
    "NumPy array": np.array,
    "NumPy array of one": lambda value: np.array([value]),
    "torch": lambda value: torch.tensor(value, dtype=torch.float64),
    "Decimal": Decimal,
    "Fraction": Fraction,
}


@pytest.mark.parametrize("kind", KINDS)
@given(value=st.floats(0, 1e6))
def test_a_number_is_its_value_in_every_library(kind: str, value: float) -> None:
    number = KINDS[kind](value)
    assert planned(std=number) == planned(std=value)
    # And builders read it the same.
    assert ic.normal((3,), std=number).std == ic.normal((3,), std=value).std


@pytest.mark.parametrize(
    "half", [np.float16(0.5), ml_dtypes.bfloat16(0.5), jnp.float32(0.5), jnp.array(0.5)]
)
def test_narrow_numbers_are_taken(half: Any) -> None:
    assert planned(std=half) == planned(std=0.5)


@given(value=st.integers(1, 100))
def test_a_number_of_layers_is_an_integer_of_any_library(value: int) -> None:
    for number in (np.int8(value), np.array(value), torch.tensor(value), float(value)):
        assert planned(layers=number) == planned(layers=value)


@pytest.mark.parametrize(
    "wrong",
    [
        *(True, np.True_, torch.tensor(False), jnp.array(True)),
        *("0.02", None, [0.02], (), {}, 1j, np.complex64(1), b"1"),
        *(np.array([1.0, 2.0]), torch.ones(2), torch.empty((), device="meta")),
        *(math.nan, -math.inf, np.float32("inf"), torch.tensor(math.nan), Decimal("nan")),
        *(10**400, -(10**400)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["std", "layers"])
def test_what_is_no_number_is_refused_with_the_value(name: str, wrong: Any) -> None:
    with pytest.raises(ic.PlanError) as caught:
        planned(**{name: wrong})
    (violation,) = caught.value.violations
    assert violation.field == f"recipe gpt2: recipe_arguments: {name}"
    assert re.match(r"is .+; it must be a (finite )?number", violation.message, re.DOTALL)


@pytest.mark.parametrize("wrong", [0.5, [("std", 1.0)], "std=1", {"std"}])
def test_arguments_are_a_mapping(wrong: Any) -> None:
    text = "recipe gpt2: recipe_arguments: is .*; give a mapping from arguments to numbers"
    with pytest.raises(ic.PlanError, match=text):
        recipes.plan(GPT2, "gpt2", recipe_arguments=wrong)


SIZES = (4, 8)


@pytest.mark.parametrize(
    "shape",
    [
        torch.Size(SIZES),
        np.array(SIZES),
        tuple(map(np.int64, SIZES)),
        jnp.zeros(SIZES).shape,
        torch.zeros(SIZES),
        np.zeros(SIZES),
    ],
    ids=repr,
)
def test_base_shapes_are_sizes_of_any_library_or_tensors(shape: Any) -> None:
    def mup(base: Any) -> ic.Plan:
        shapes = {"a.weight": (4, 4), "lm_head.weight": base}
        return recipes.plan(MUP, "mup", recipe_arguments={"base_shapes": shapes})

    assert mup(shape) == mup(SIZES)
    # A vector's elements are not its sizes.
    shapes = {"a.weight": (4, 4), "lm_head.weight": SIZES, "a.bias": torch.full((4,), 2.5)}
    assert recipes.plan(MUP, "mup", recipe_arguments={"base_shapes": shapes}) == mup(SIZES)


@pytest.mark.parametrize("wrong", [(4, 8.5), (4, True), (4, "8"), None, 8.0, "48"])
def test_base_shapes_that_are_no_sizes_are_refused(wrong: Any) -> None:
    shapes = {"a.weight": (4, 4), "lm_head.weight": wrong}
    with pytest.raises(ic.PlanError, match="base_shapes: must be a model, a plan, or a mapping"):
        recipes.plan(MUP, "mup", recipe_arguments={"base_shapes": shapes})


def test_tensors_without_a_model_are_checked_before_any_formula() -> None:
    with pytest.raises(ic.PlanError) as caught:
        recipes.plan(
            [
                ("a.weight", (8, 8.5), "F32"),
                ("c.weight", (8, 8), "F33"),
                ("d.weight", (8, 8), "F32"),
                ("d.weight", (4, 8), "F32"),
            ],
            "vit",
        )
    texts = [f"{one.tensor}: {one.field}: {one.message}" for one in caught.value.violations]
    assert texts[0].startswith("a.weight: shape: axis 1 is 8.5; sizes must be integers")
    assert texts[1].startswith("c.weight: dtype: 'F33' is not known")
    assert texts[2:] == ["d.weight: name: two tensors have this name"]
    for wrong in (("w", (3, 3)), "w", ("w", (3, 3), "F32", 1), (1, (3, 3), "F32")):
        with pytest.raises(TypeError, match=r"give \(name, shape, dtype\) of each"):
            recipes.plan([wrong], "vit")  # type: ignore[list-item]
