"""Recipes: rules for whole kinds of models, each a YAML file that names its source.

>>> from initclient import recipes
>>> recipes.names()[:3]
('bert', 'deepnorm', 'deepnorm_encoder_decoder')
>>> plan = recipes.plan([
...     ("transformer.wte.weight", (50257, 768), "BF16"),
...     ("transformer.h.0.mlp.c_proj.weight", (3072, 768), "BF16"),
... ], "gpt2", seed=7, recipe_arguments={"layers": 12})
>>> plan.tensors["transformer.wte.weight"].std
0.02

`initclient.torch.plan(model, recipe="gpt2")` takes a model; `initclient recipes` prints them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from initcore import Plan, PlanError, Violation
from initcore.plan import suggestion

from initclient._exceptions import PlanWarning
from initclient._plan import check_plan
from initclient.recipes._binding import Named
from initclient.recipes._binding import plan as _plan
from initclient.recipes._recipe import Recipe, Rule

__all__ = ["Recipe", "Rule", "load", "names", "plan"]

_SUFFIXES = (".yaml", ".yml")


def names() -> tuple[str, ...]:
    """The names of the recipes that come with initserve."""
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


def load(recipe: str | os.PathLike[str] | Recipe) -> Recipe:
    """Loads a recipe by its name, or from a YAML file.

    Args:
        recipe: a name from `names()`; or the path of a YAML file, which ends in .yaml or .yml
            or has a folder in it.

    Raises:
        PlanError: for an unknown name, and for a file that is no recipe; the error names file,
            rule, field and remedy.
        OSError: if the file cannot be read.
    """
    from initclient.recipes._form import read

    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str | os.PathLike):
        raise TypeError(f"the recipe is {recipe!r}; give a name, or the path of a YAML file")
    text = os.fspath(recipe)
    if text in names():
        return read((files(__name__) / f"{text}.yaml").read_text("utf-8"), text)
    if text.endswith(_SUFFIXES) or Path(text).name != text:
        try:
            return read(Path(text).read_text("utf-8"), text)
        except UnicodeDecodeError as error:
            raise PlanError([Violation("", text, f"is not text in UTF-8: {error}")]) from error
    message = (
        f"{text!r} is not known: {suggestion(text, names())}; or give the path of a .yaml file"
    )
    raise PlanError([Violation("", "recipe", message)])


def plan(
    tensors: Iterable[Named],
    recipe: str | os.PathLike[str] | Recipe,
    *,
    seed: int = 0,
    recipe_arguments: Mapping[str, Any] | None = None,
) -> Plan:
    """Makes a plan from names, shapes and element types, without a model.

    Args:
        tensors: (name, shape, dtype) of each, for example from a checkpoint's header.
        recipe: a name, the path of a YAML file, or what `load` returned.
        seed: the plan's seed.
        recipe_arguments: values for the recipe's arguments.

    Raises:
        PlanError: if no rule covers a tensor, or a formula has no value for it (the error names
            every such tensor); if the recipe matches by the classes of modules.

    Warns:
        PlanWarning: if the recipe does not seem to be for this kind of model.
    """
    made, texts = _plan(tensors, load(recipe), seed=seed, recipe_arguments=recipe_arguments)
    check_plan(made)
    for text in texts:
        warnings.warn(text, PlanWarning, stacklevel=2)
    return made
