"""Draft: collects a plan's tensors, violations and warnings, member by member."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from initcore import Plan, PlanError, Tensor, Violation
from torch import nn

from initclient._plan import KeepingPlan, check_plan, new_streams, pinned
from initclient.torch._layouts import fits
from initclient.torch._model import Member, OwnCode, class_name
from initclient.torch._planning.defaults import default
from initclient.torch._planning.doubts import Decision, Guesses, builder_for, doubts, some, uncalled
from initclient.torch._planning.held import HeldValues
from initclient.torch._planning.layers import notes
from initclient.torch._planning.recipes import ModelRecipe, fitting_recipe
from initclient.torch._planning.rules import Rule, given, keep
from initclient.torch._record import Recorded


class Draft:
    """The draft of one plan.

    Args:
        rules: the user's.
        dtype: element type of all floating-point tensors; None means the model's own.
        padding: rows that stay zero, by the id of the tensor that has them.
        recorded: what the model's own code draws, where it was recorded.
        seed: the plan's.

    Raises:
        TypeError: for a rule that is no `Rule`.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...],
        dtype: Any,
        padding: dict[int, set[int]],
        recorded: Recorded | None = None,
        seed: int = 0,
    ) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"among the rules is {rule!r}; make rules with ict.rule(...)")
        self.rules = rules
        self.dtype = dtype
        self._padding = padding
        self._recorded = recorded
        self._seed = seed
        self._as_recorded: set[str] = set()
        self._streams: dict[str, str] = {}
        self.recipe: ModelRecipe | None = None
        self.unmatched: dict[str, Violation] = {}
        self.tensors: dict[str, Tensor] = {}
        self.violations: list[Violation] = []
        self.kept: list[str] = []
        self._decisions: list[Decision] = []
        self._first: dict[int, str] = {}
        self._used: set[int] = set()
        self._tied: list[Member] = []
        self._left: list[Member] = []
        self._left_out: list[str] = []
        self._advised: set[tuple[str, str]] = set()
        self._own_code = OwnCode(seed)
        self._guesses = Guesses(self._own_code)
        self._held = HeldValues(self._own_code)

    def add(self, member: Member) -> None:
        """Adds a parameter or buffer to the plan, by the first rule that matches it."""
        first = self._first.setdefault(id(member.tensor), member.name)
        if first != member.name:
            self._tied.append(member)
            if first in self.tensors:
                self.tensors[member.name] = pinned(self.tensors[first], first)
            elif first in self.kept:
                self.kept.append(member.name)
            return
        rule = self._rule_for(member)
        if rule is not None and rule.initializer is given:
            return
        if rule is not None and rule.initializer is keep:
            self.kept.append(member.name)
            return
        is_recorded = rule is None and self._recorded is not None
        try:
            tensor = self._by_default(member) if rule is None else self._by_rule(member, rule)
        except PlanError as error:
            self.violations += error.violations
            return
        is_missing = tensor is None and not member.is_buffer
        if member.tensor.is_complex() and (tensor is not None or is_missing):
            self.violations.append(_is_complex(member))
        elif tensor is not None and is_recorded:
            self.tensors[member.name] = tensor
            self._as_recorded.add(member.name)
        elif tensor is not None:
            if rule is not None and self.recipe is not None and not self._is_own(rule):
                self._guesses.by_recipe(member, tensor, self.recipe, self._kind(member))
            self.tensors[member.name] = self._padded(member, tensor)
            self._decisions.append(Decision(member, tensor, self._origin(member, rule)))
        elif member.is_buffer:
            self._left_out.append(member.name)
        else:
            self.violations.append(self._uncovered(member))

    def leave(self, member: Member) -> None:
        """Keeps a parameter or buffer that the plan is not for."""
        self.kept.append(member.name)
        self._left.append(member)
        if self._recorded is None or not member.persistent or self._is_ruled(member):
            return
        # Of a draw that several tensors share, the first one in the model names the stream.
        with suppress(PlanError):
            self._recorded.tensor(member, self._kind(member), self._streams)

    def settle_norms(self) -> None:
        """Makes recorded norms those of what the plan has, which a rule may have decided."""
        recorded = self._recorded
        if recorded is None:
            return
        for name, of in recorded.norms.items():
            if name not in self._as_recorded:
                continue
            if of in self.tensors:
                made = recorded.norm(name, self.tensors[of])
                tied = [one.name for one in self._tied if self._first[id(one.tensor)] == name]
                self.tensors |= dict.fromkeys([name, *tied], made)
            else:
                remedy = "give it a rule too"
                if of in self.kept:
                    remedy = f"keep {name} too, or plan both"
                message = f"is the norm of {of}, which the plan leaves out; {remedy}"
                self.violations.append(Violation(name, "scheme", message))

    def plan(self) -> Plan:
        """The plan, checked."""
        came_from = {} if self._recorded is None else self._recorded.provenance
        made = Plan(self.tensors, self._seed, provenance=came_from)
        check_plan(made)
        if not self.kept:
            return made
        return KeepingPlan(self.tensors, self._seed, tuple(self.kept), provenance=came_from)

    @property
    def missing(self) -> dict[str, str]:
        """What the model has nothing for: by a key that all processes share, a sentence; "" for a
        glob, which is an error."""
        unused = {
            f"rule {place}": self._unused(rule)
            for place, rule in enumerate(self.rules)
            if place not in self._used
        }
        recipe = {text: text for text in (self.recipe.warnings() if self.recipe else ())}
        return {**unused, **recipe, **dict.fromkeys(self.unmatched, "")}

    def warnings(self) -> list[str]:
        """Other warnings for the user, as sentences."""
        texts = new_streams({n: t for n, t in self.tensors.items() if n not in self._as_recorded})
        texts += doubts(self._decisions)
        texts += notes(self._decisions)
        texts += self._guesses.texts()
        texts += self._held.texts()
        if self._left_out:
            texts.append(
                f"no rule has the values of {some(self._left_out, 'buffer')}, so the plan leaves "
                "them out; init_ calls the modules to compute them, if they can"
            )
        if self._recorded is not None and self._as_recorded:
            texts += uncalled(self._recorded.uncalled)
        if self._recorded is not None and (outside := self._recorded.unplanned):
            texts.append(
                f"the state dict leaves out {some(outside, 'buffer')}, drawn at random, so no plan "
                "has such values; make it a part of the state dict (persistent=True), or give its "
                "values to init_ (values=)"
            )
        return texts

    def _unused(self, rule: Rule) -> str:
        tied = [member for member in self._tied if rule.matches(member)]
        if tied:
            name, first = tied[0].name, self._first[id(tied[0].tensor)]
            return f"{rule!r} has no effect: {name} is tied to {first}, whose rule counts"
        if any(rule.matches(member) for member in self._left):
            return (
                f"{rule!r} has no effect: only= leaves out its parameters, or earlier rules match "
                "them"
            )
        return (
            f"{rule!r} has no effect: earlier rules match all of its parameters, or it matches none"
        )

    def _uncovered(self, member: Member) -> Violation:
        kind = class_name(member.owner)
        message = f"no rule covers this parameter of {kind}, of shape {list(member.shape)}"
        if (kind, member.attribute) not in self._advised:
            # Once: models repeat their layers.
            self._advised.add((kind, member.attribute))
            builder = builder_for(member)
            law = f"ic.{builder}" if builder else "ic.normal, std=0.02"
            by_kind = f"rule({kind}, {law}, parameter={member.attribute!r})"
            # A container has parameters of all kinds.
            is_container = isinstance(member.owner, nn.ParameterDict | nn.ParameterList)
            by_name = f"rule({member.name!r}, {law})"
            message += f"; add one, such as {by_name if is_container else by_kind}"
            if self._recorded is None and len(self._advised) == 1:
                recipe = None if self.recipe else fitting_recipe(member)
                if recipe is not None:
                    message += f"; or take the recipe of such models: recipe={recipe!r}"
                line = self._own_code.recording_line(member)
                message += f"; or record the model's own code: {line}"
        return Violation(member.name, "scheme", message)

    def _rule_for(self, member: Member) -> Rule | None:
        for index, rule in enumerate(self.rules):
            if rule.matches(member):
                self._used.add(index)
                return rule
        return None if self.recipe is None else self.recipe.rule_for(member)

    def _is_ruled(self, member: Member) -> bool:
        """Whether a rule, or the recipe, decides a parameter that the plan is not for."""
        by_recipe = self.recipe is not None and self.recipe.rule_for(member) is not None
        return by_recipe or any(rule.matches(member) for rule in self.rules)

    def _origin(self, member: Member, rule: Rule | None) -> object:
        if rule is None or self.recipe is None or self._is_own(rule):
            return rule
        return self.recipe.origin(member)

    def _is_own(self, rule: Rule) -> bool:
        """Whether a rule is the user's, not the recipe's."""
        return any(rule is one for one in self.rules)

    def _by_rule(self, member: Member, rule: Rule) -> Tensor:
        kind, rows = self._kind(member), partial(fits, member.layout)
        return rule.tensor(member.name, member.shape, kind, fits=rows)

    def _by_default(self, member: Member) -> Tensor | None:
        if self._recorded is not None:
            return self._recorded.tensor(member, self._kind(member), self._streams)
        initializer = default(member)
        if initializer is None:
            return None
        tensor = initializer(member.shape, dtype=self._kind(member))
        self._guesses.by_default(member, tensor)
        self._held.compare(member, tensor)
        return tensor

    def _padded(self, member: Member, tensor: Tensor) -> Tensor:
        rows = self._padding.get(id(member.tensor))
        if not rows or tensor.scheme in ("zeros", "pretrained"):
            return tensor
        return replace(tensor, zero_rows=tuple(sorted({*(tensor.zero_rows or ()), *rows})))

    def _kind(self, member: Member) -> Any:
        kind = member.tensor.dtype
        return self.dtype if self.dtype is not None and kind.is_floating_point else kind


def _is_complex(member: Member) -> Violation:
    dtype = str(member.tensor.dtype).removeprefix("torch.")
    message = (
        f"is {dtype}, and a plan has real numbers only; ict.rule({member.name!r}, ict.keep) leaves "
        "what is there, and the model's own code fills it"
    )
    return Violation(member.name, "dtype", message)
