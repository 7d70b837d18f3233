"""plan: from a model to the plan of its weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from initcore import Plan, PlanError, Tensor, Violation
from torch import nn

from initclient._exceptions import PlanWarning
from initclient._plan import KeepingPlan, anchored, check_plan, new_streams
from initclient.recipes import Recipe
from initclient.torch._defaults import default
from initclient.torch._doubts import Decision, doubts, some
from initclient.torch._model import Member, class_name, members
from initclient.torch._recipes import ModelRecipe
from initclient.torch._rules import Rule, given, keep

# Methods by which models initialize what they consist of.
_OWN_WAYS = ("_init_weights", "init_weights", "reset_parameters", "_reset_parameters")

_CONSTANT = ("constant", "ones", "zeros")


def plan(
    model: nn.Module,
    rules: Iterable[Rule] = (),
    *,
    seed: int = 0,
    dtype: Any = None,
    zero_padding: bool = True,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    recipe_arguments: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of a model's weights: its names, shapes, element types and ties.

    No value of the model is read, so the model may be on the meta device. It may be wrapped
    (DDP, torch.compile, activation checkpointing) and sharded (`fully_shard`, DTensor): its
    plan stays the same.

    Args:
        model: any module.
        rules: what `rule` makes; the first that matches a parameter decides. After them come
            the recipe's, and last torch's own: each module of torch.nn draws as its
            reset_parameters does.
        seed: the plan's seed.
        dtype: element type for everything that is floating, instead of the model's own.
        zero_padding: hold the padding rows of embeddings at zero (`zero_rows`), as torch's
            reset_parameters does, whichever rule decides. False draws them like other rows.
        recipe: rules for this kind of model: a name, such as "gpt2" (`initclient recipes` lists
            them), the path of a YAML file, or what `initclient.recipes.load` returned.
        recipe_arguments: values for the recipe's arguments, such as {"std": 0.01}.

    Returns:
        The plan of the state dict's tensors, in its order. A tensor that has several names
        (tied weights) is drawn once: the later names have the first one's stream. Buffers
        that no rule knows are left out; `init_` has the module's own code compute them.

    Raises:
        PlanError: naming every parameter that no rule covers, and everything else that is
            wrong with the plan.
        TypeError: if an initializer does not take its arguments, or for what is no model or rule.

    Warns:
        PlanWarning: for rules that decide nothing; for parameters that have torch's default
            within a module that initializes them itself, in a way not known here; for
            buffers left out that the state dict has; for frozen parameters and weights of norms
            that are drawn at random, and that no rule singles out.

    Example:
        >>> import initclient as ic
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> plan = ict.plan(nn.Linear(4, 2), [ict.rule("bias", ic.zeros)], seed=7)
        >>> plan.tensors["weight"].scheme, plan.tensors["bias"].scheme
        ('kaiming_uniform', 'zeros')
    """
    found = [member for member in members(model) if member.persistent]
    drawn = _Drawing(tuple(rules), dtype, _padding_rows(found) if zero_padding else {})
    if recipe is not None:
        drawn.recipe = ModelRecipe(recipe, found, recipe_arguments)
    elif recipe_arguments:
        raise TypeError("recipe_arguments belong to a recipe; give recipe= too")
    for member in found:
        drawn.add(member)
    if drawn.violations:
        raise PlanError(drawn.violations)
    made = Plan(drawn.tensors, seed)
    check_plan(made)
    if drawn.kept:
        made = KeepingPlan(drawn.tensors, seed, tuple(drawn.kept))
    for text in drawn.warnings():
        warnings.warn(text, PlanWarning, stacklevel=2)
    return made


class _Drawing:
    """The tensors of a plan as they are found, and what there is to say about them."""

    def __init__(self, rules: tuple[Rule, ...], dtype: Any, padding: dict[int, set[int]]) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"among the rules is {rule!r}; make rules with ict.rule(...)")
        self.rules = rules
        self.dtype = dtype
        self._padding = padding
        self.recipe: ModelRecipe | None = None
        self.tensors: dict[str, Tensor] = {}
        self.violations: list[Violation] = []
        self.kept: list[str] = []
        self._decisions: list[Decision] = []
        self._first: dict[int, str] = {}
        self._used: set[int] = set()
        self._tied: list[Member] = []
        self._left_out: list[str] = []
        self._advised: set[tuple[str, str]] = set()
        self._guessed: dict[str, list[str]] = {}

    def add(self, member: Member) -> None:
        """Adds a parameter or buffer to the plan, by the first rule that knows it."""
        first = self._first.setdefault(id(member.tensor), member.name)
        if first != member.name:
            self._tied.append(member)
            if first in self.tensors:
                self.tensors[member.name] = anchored(self.tensors[first], first)
            elif first in self.kept:
                self.kept.append(member.name)
            return
        rule = self._rule_for(member)
        if rule is not None and rule.initializer is given:
            return
        if rule is not None and rule.initializer is keep:
            self.kept.append(member.name)
            return
        tensor = self._by_default(member) if rule is None else self._by_rule(member, rule)
        if tensor is not None:
            self.tensors[member.name] = self._padded(member, tensor)
            if not member.is_buffer:
                self._decisions.append(Decision(member, tensor, self._origin(member, rule)))
        elif member.is_buffer:
            self._left_out.append(member.name)
        else:
            self.violations.append(self._uncovered(member))

    def warnings(self) -> list[str]:
        """What the user should know, as sentences."""
        texts = [self._unused(rule) for i, rule in enumerate(self.rules) if i not in self._used]
        texts += self.recipe.warnings() if self.recipe else []
        texts += new_streams(self.tensors)
        texts += doubts(self._decisions)
        texts += [
            f"{owner} initializes its weights itself, in a way that is not known here; "
            f"{some(names)} got the default of torch's module instead. Add rules that say "
            "what is right"
            for owner, names in self._guessed.items()
        ]
        if self._left_out:
            texts.append(
                f"no rule knows the values of {some(self._left_out, 'buffer')}, so the plan "
                "leaves them out; init_ has the modules compute them, where they do"
            )
        return texts

    def _unused(self, rule: Rule) -> str:
        tied = [member for member in self._tied if rule.matches(member)]
        if tied:
            name, first = tied[0].name, self._first[id(tied[0].tensor)]
            return f"{rule!r} decides nothing: {name} is tied to {first}, whose rule counts"
        return (
            f"{rule!r} decides nothing: it matches no parameter that an earlier rule leaves to it"
        )

    def _uncovered(self, member: Member) -> Violation:
        kind = class_name(member.owner)
        message = f"no rule covers this parameter of {kind}, of shape {list(member.shape)}"
        if (kind, member.attribute) not in self._advised:
            # Once: models repeat their layers.
            self._advised.add((kind, member.attribute))
            message += (
                f"; add one, such as rule({kind}, ic.normal, parameter={member.attribute!r}, "
                f"std=0.02) or rule({member.name!r}, ic.ones)"
            )
        return Violation(member.name, "scheme", message)

    def _rule_for(self, member: Member) -> Rule | None:
        for index, rule in enumerate(self.rules):
            if rule.matches(member):
                self._used.add(index)
                return rule
        return None if self.recipe is None else self.recipe.rule_for(member)

    def _origin(self, member: Member, rule: Rule | None) -> object:
        if rule is None or self.recipe is None or any(rule is one for one in self.rules):
            return rule
        return self.recipe.origin(member)

    def _by_rule(self, member: Member, rule: Rule) -> Tensor:
        return rule.tensor(member.name, member.shape, self._kind(member))

    def _by_default(self, member: Member) -> Tensor | None:
        initializer = default(member)
        if initializer is None:
            return None
        tensor = initializer(member.shape, dtype=self._kind(member))
        if tensor.scheme not in _CONSTANT:
            owner = _initializes_itself(member)
            if owner is not None:
                self._guessed.setdefault(owner, []).append(member.name)
        return tensor

    def _padded(self, member: Member, tensor: Tensor) -> Tensor:
        rows = self._padding.get(id(member.tensor))
        if not rows or tensor.scheme in ("zeros", "pretrained"):
            return tensor
        return replace(tensor, zero_rows=tuple(sorted({*(tensor.zero_rows or ()), *rows})))

    def _kind(self, member: Member) -> Any:
        kind = member.tensor.dtype
        return self.dtype if self.dtype is not None and kind.is_floating_point else kind


def _padding_rows(found: Iterable[Member]) -> dict[int, set[int]]:
    """By the tensor's identity: a tied one has the padding row of any place that has one."""
    rows: dict[int, set[int]] = {}
    for member in found:
        if member.padding_row is not None:
            rows.setdefault(id(member.tensor), set()).add(member.padding_row)
    return rows


def _initializes_itself(member: Member) -> str | None:
    """The class of the outermost module that has a way of its own to initialize its parts."""
    for module in member.path:
        for name in _OWN_WAYS:
            method = getattr(type(module), name, None)
            if method is not None and not str(method.__module__).startswith("torch."):
                return f"{class_name(module)} ({name})"
    return None
