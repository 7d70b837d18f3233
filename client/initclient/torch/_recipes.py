"""Recipes for torch models, whose rules may match by the classes of modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import initcore
from torch import nn

from initclient.recipes import load
from initclient.recipes._binding import Bound
from initclient.recipes._recipe import Parameter
from initclient.torch._model import Member
from initclient.torch._rules import Rule, rule


class ModelRecipe:
    """A recipe bound to the members of a model.

    Args:
        recipe: a name, the path of a YAML file, or a loaded recipe.
        members: the model's members.
        arguments: values for the recipe's arguments.

    Raises:
        PlanError: if the recipe is unknown or wrong, or its arguments are.
    """

    def __init__(
        self, recipe: Any, members: Sequence[Member], arguments: Mapping[str, Any] | None
    ) -> None:
        self._bound = Bound(load(recipe), map(_parameter, members), arguments)

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

    def warnings(self) -> list[str]:
        """Warnings about how the recipe fits the model, as sentences."""
        return self._bound.warnings()


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
