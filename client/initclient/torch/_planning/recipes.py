"""Recipes for torch models, whose rules may match by the classes of modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import initcore
from initcore import PlanError, Violation
from initcore.plan import plain_number
from torch import nn

from initclient.recipes import load, names
from initclient.recipes._binding import Bound
from initclient.recipes._recipe import Parameter, Recipe
from initclient.torch._model import Member, class_name
from initclient.torch._planning.rules import Rule, rule

# Whose models initialize themselves, each class in its way; those of transformers are known by
# their base class.
_LIBRARIES = {"diffusers", "megatron", "timm", "torchtitan", "torchvision"}


class ModelRecipe:
    """A recipe bound to the members of a model.

    Args:
        recipe: a name, the path of a YAML file, or a loaded recipe.
        members: the model's members.
        arguments: values for the recipe's arguments.

    Raises:
        PlanError: if the recipe is unknown or wrong, or its arguments are, or if it is for other
            classes of models.

    Attributes:
        deprecation: a sentence on what takes the recipe's place; "" if it stays.
    """

    def __init__(
        self, recipe: Any, members: Sequence[Member], arguments: Mapping[str, Any] | None
    ) -> None:
        loaded = load(recipe)
        modules = {id(module): module for member in members for module in member.path}
        _refuse_others(loaded, modules.values(), members)
        own = _configured(loaded, modules.values(), arguments or {})
        self._bound = Bound(loaded, map(_parameter, members), {**(arguments or {}), **own})
        self._changes = _changes(loaded, own)
        self.deprecation = loaded.deprecation

    def rule_for(self, member: Member) -> Rule | None:
        """The recipe's rule for one member, as a rule of `initclient.torch`; None without one."""
        found = self._bound.rule_for(member.name)
        if found is None:
            return None
        builder = getattr(initcore, found.scheme)
        return rule(member.name, builder, **self._bound.values(found, member.name))

    def origin(self, member: Member) -> object:
        """The recipe's own rule that decides a member, the same object for all that it decides."""
        return self._bound.rule_for(member.name)

    def names_model_of(self, member: Member) -> bool:
        """Whether it lists the class of a model around a member."""
        recipe = self._bound.recipe
        return any(recipe.names_class(_classes(module)) for module in member.path)

    def warnings(self) -> list[str]:
        """Warnings about how the recipe fits the model, as sentences."""
        return self._bound.warnings() + self._changes


def fitting_recipe(member: Member) -> str | None:
    """The name of a recipe that lists the class of the member's model; None without one.

    Where one of them repeats the model's library, the recording of the model takes its place.
    """
    classes = [_classes(module) for module in member.path]
    fitting = [one for one in map(load, names()) if any(map(one.names_class, classes))]
    if not fitting or any(one.repeats for one in fitting):
        return None
    return fitting[0].name


def _refuse_others(recipe: Recipe, modules: Iterable[nn.Module], members: Iterable[Member]) -> None:
    others = [class_name(module) for module in modules if not recipe.is_for(_classes(module))]
    others += [class_name(one) for m in members if (one := _of_other_package(recipe, m.path))]
    if others:
        name = recipe.name
        message = (
            f"is not for {others[0]}: no test compares it with that class's own initialization "
            f"(`initclient recipes {name}` lists the classes); write a recipe of your own "
            f"(`initclient recipes {name} --yaml` is a start: change its models)"
        )
        raise PlanError([Violation("", f"recipe {name}", message)])


def _of_other_package(recipe: Recipe, path: Sequence[nn.Module]) -> nn.Module | None:
    """The outermost of modules of a package, if the recipe is for others of that package.

    A recipe that repeats one library is for no class of another library that is known here.
    """
    packages = [_package(module) for module in path]
    known = set(recipe.models) | (_LIBRARIES if recipe.repeats and recipe.models else set())
    for package in dict.fromkeys(packages):
        if package not in known:
            continue
        inside = [one for one, its in zip(path, packages, strict=True) if its == package]
        # A wrapper of the same package may be around it, and its layers are within it.
        is_for = (recipe.is_for([package, *_classes(one)]) for one in inside)
        if package not in recipe.models or not any(is_for):
            return inside[0]
    return None


def _package(module: nn.Module) -> str:
    kinds = (kind.__module__ for kind in type(module).__mro__)
    own = (name for name in kinds if not name.startswith("torch.distributed.fsdp"))
    return next(own).partition(".")[0]


def _configured(
    recipe: Recipe, modules: Iterable[nn.Module], given: Mapping[str, Any]
) -> dict[str, float]:
    """Arguments that the user does not give and the config of the outermost module has."""
    configs = [config for one in modules if (config := getattr(one, "config", None)) is not None]
    found: dict[str, float] = {}
    for argument, key in recipe.config.items():
        values = (getattr(config, key, None) for config in configs)
        value = next((v for v in map(plain_number, values) if type(v) in (int, float)), None)
        if argument not in given and value is not None:
            found[argument] = value
    return found


def _changes(recipe: Recipe, own: Mapping[str, float]) -> list[str]:
    """Sentences on arguments that had another value before recipes read configs."""
    return [
        f"recipe {recipe.name} takes {name}={value} from the model's config "
        f"({recipe.config[name]}) since 0.3.0, and took {recipe.arguments[name]} before; give "
        f"recipe_arguments={{{name!r}: ...}} for the one or the other"
        for name, value in own.items()
        if str(recipe.arguments[name]) != str(value)
    ]


def _parameter(member: Member) -> Parameter:
    return Parameter(
        member.name,
        member.shape,
        types=_classes(member.owner),
        within=tuple(name for module in member.path[:-1] for name in _classes(module)),
        is_buffer=member.is_buffer,
    )


def _classes(module: nn.Module) -> tuple[str, ...]:
    return tuple(kind.__name__ for kind in type(module).__mro__)
