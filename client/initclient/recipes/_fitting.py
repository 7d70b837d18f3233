"""Which recipes fit tensors of which only names and shapes are known."""

from __future__ import annotations

from collections.abc import Mapping

from initcore import PlanError

from initclient.recipes import load, names
from initclient.recipes._binding import Bound
from initclient.recipes._quantities import Shape
from initclient.recipes._recipe import Parameter, Recipe


def fitting(shapes: Mapping[str, Shape]) -> list[str]:
    """The names of the recipes that cover all of these tensors and know their names.

    Most recipes cover anything. Only one that must match weights by their names, and draws them,
    can tell that a model is of its kind: weights of norms are in models of all kinds.

    Args:
        shapes: the shape of each tensor, by its name.
    """
    return [name for name in names() if _fits(load(name), shapes)]


def _fits(recipe: Recipe, shapes: Mapping[str, Shape]) -> bool:
    if recipe.needs_types or not any(
        rule.must_match and rule.scheme != "ones" for rule in recipe.rules
    ):
        return False
    try:
        bound = Bound(recipe, [Parameter(name, shape) for name, shape in shapes.items()])
        covered = all(bound.tensor(name, "F32") is not None for name in shapes)
    except PlanError:  # it needs an argument, or a formula has no value for these tensors
        return False
    return covered and not bound.warnings()
