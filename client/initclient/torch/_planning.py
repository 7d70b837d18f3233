"""plan: makes the plan of a model's weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from initcore import Plan, PlanError, Tensor, Violation
from torch import nn

from initclient._exceptions import PlanWarning
from initclient._plan import KeepingPlan, check_plan, new_streams, pinned
from initclient.recipes import Recipe
from initclient.torch._defaults import default
from initclient.torch._doubts import Decision, doubts, some
from initclient.torch._layers import notes
from initclient.torch._model import Member, class_name, members
from initclient.torch._recipes import ModelRecipe
from initclient.torch._record import Recorded
from initclient.torch._rules import Rule, given, keep

# Methods in which models initialize their own parts.
_OWN_METHODS = ("_init_weights", "init_weights", "reset_parameters", "_reset_parameters")

_CONSTANT = ("constant", "ones", "zeros")


def plan(
    model: nn.Module | Recorded,
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
        model: any module, or the result of `record`, whose own code then decides in place of
            torch's defaults.
        rules: results of `rule`; the first that matches a parameter decides. After them come the
            recipe's rules, and last torch's defaults: each module of torch.nn draws as its
            reset_parameters does.
        seed: the plan's seed.
        dtype: element type of all floating-point tensors, instead of the model's own.
        zero_padding: hold the padding rows of embeddings at zero (`zero_rows`), as torch's
            reset_parameters does, under every rule. False draws them like other rows.
        recipe: rules for this kind of model: a name, such as "gpt2" (`initclient recipes` lists
            them), the path of a YAML file, or the result of `initclient.recipes.load`.
        recipe_arguments: values for the recipe's arguments, such as {"std": 0.01}.

    Returns:
        The plan of the state dict's tensors, in its order. A tensor that has several names (tied
        weights) is drawn once: the later names have the first name's stream. Buffers without a
        rule are left out; `init_` calls the module's own code to compute them.

    Raises:
        PlanError: naming every parameter that no rule covers, and everything else that is
            wrong with the plan.
        TypeError: for a model that is no module, a rule that is no `Rule`, or an initializer that
            does not take its arguments.

    Warns:
        PlanWarning: for rules without effect; for parameters that get torch's default though an
            outer module has an initialization of its own, which is not known here; for buffers
            of the state dict that are left out; for frozen parameters and weights of norms that
            are drawn at random, and that no rule singles out; and where a rule's scheme ignores
            what the layer knows of its weight: transposed axes, groups, stacked gates.

    Example:
        >>> import initclient as ic
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> plan = ict.plan(nn.Linear(4, 2), [ict.rule("bias", ic.zeros)], seed=7)
        >>> plan.tensors["weight"].scheme, plan.tensors["bias"].scheme
        ('kaiming_uniform', 'zeros')
    """
    recorded = model if isinstance(model, Recorded) else None
    whole = model.model if isinstance(model, Recorded) else model
    found = [member for member in members(whole) if member.persistent]
    draft = _Draft(tuple(rules), dtype, _padding_rows(found) if zero_padding else {}, recorded)
    if recipe is not None:
        draft.recipe = ModelRecipe(recipe, found, recipe_arguments)
    elif recipe_arguments:
        raise TypeError("recipe_arguments belong to a recipe; give recipe= too")
    for member in found:
        draft.add(member)
    draft.settle_norms()
    if draft.violations:
        raise PlanError(draft.violations)
    came_from = {} if recorded is None else recorded.provenance
    made = Plan(draft.tensors, seed, provenance=came_from)
    check_plan(made)
    if draft.kept:
        made = KeepingPlan(draft.tensors, seed, tuple(draft.kept), provenance=came_from)
    for text in draft.warnings():
        warnings.warn(text, PlanWarning, stacklevel=2)
    return made


class _Draft:
    """Collects a plan's tensors, violations and warnings, member by member."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        dtype: Any,
        padding: dict[int, set[int]],
        recorded: Recorded | None = None,
    ) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"among the rules is {rule!r}; make rules with ict.rule(...)")
        self.rules = rules
        self.dtype = dtype
        self._padding = padding
        self._recorded = recorded
        self._as_recorded: set[str] = set()
        self._streams: dict[str, str] = {}
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
        self._recording = ""

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
        if tensor is not None and is_recorded:
            self.tensors[member.name] = tensor
            self._as_recorded.add(member.name)
        elif tensor is not None:
            self.tensors[member.name] = self._padded(member, tensor)
            self._decisions.append(Decision(member, tensor, self._origin(member, rule)))
        elif member.is_buffer:
            self._left_out.append(member.name)
        else:
            self.violations.append(self._uncovered(member))

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
                message = f"is the norm of {of}, which the plan leaves out; give it a rule too"
                self.violations.append(Violation(name, "scheme", message))

    def warnings(self) -> list[str]:
        """Warnings for the user, as sentences."""
        texts = [self._unused(rule) for i, rule in enumerate(self.rules) if i not in self._used]
        texts += self.recipe.warnings() if self.recipe else []
        texts += new_streams({n: t for n, t in self.tensors.items() if n not in self._as_recorded})
        texts += doubts(self._decisions)
        texts += notes(self._decisions)
        texts += [
            f"{owner} initializes its weights itself, which this plan does not repeat; "
            f"{some(names)} got the default of torch's module instead. Add rules for them, or "
            f"record that code: {self._recording}"
            for owner, names in self._guessed.items()
        ]
        if self._left_out:
            texts.append(
                f"no rule has the values of {some(self._left_out, 'buffer')}, so the plan leaves "
                "them out; init_ calls the modules to compute them, if they can"
            )
        return texts

    def _unused(self, rule: Rule) -> str:
        tied = [member for member in self._tied if rule.matches(member)]
        if tied:
            name, first = tied[0].name, self._first[id(tied[0].tensor)]
            return f"{rule!r} has no effect: {name} is tied to {first}, whose rule counts"
        return (
            f"{rule!r} has no effect: earlier rules match all of its parameters, or it matches none"
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
            if self._recorded is None and len(self._advised) == 1:
                message += f"; or record the model's own code: {_recording(member)}"
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
        if self._recorded is not None:
            return self._recorded.tensor(member, self._kind(member), self._streams)
        initializer = default(member)
        if initializer is None:
            return None
        tensor = initializer(member.shape, dtype=self._kind(member))
        if tensor.scheme not in _CONSTANT:
            owner = _initializes_itself(member)
            if owner is not None:
                self._guessed.setdefault(owner, []).append(member.name)
                self._recording = _recording(member)
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
    """Padding rows by the tensor's identity: a tied tensor has those of all its places."""
    rows: dict[int, set[int]] = {}
    for member in found:
        if member.padding_row is not None:
            rows.setdefault(id(member.tensor), set()).add(member.padding_row)
    return rows


def _recording(member: Member) -> str:
    """The line that makes the plan of what the model's own code draws."""
    model = member.path[0]
    given = "..." if getattr(model, "config", None) is None else "config"
    return f"ict.record({class_name(model)}, {given}).plan(seed=...)"


def _initializes_itself(member: Member) -> str | None:
    """The class, and method, of the outermost module that initializes its parts itself."""
    for module in member.path:
        for name in _OWN_METHODS:
            method = getattr(type(module), name, None)
            if method is not None and not str(method.__module__).startswith("torch."):
                return f"{class_name(module)} ({name})"
    return None
