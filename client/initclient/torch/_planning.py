"""plan: makes the plan of a model's weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from initcore import Plan, PlanError, Tensor, Violation
from torch import nn

from initclient._exceptions import PlanWarning
from initclient._plan import KeepingPlan, check_plan, listed, new_streams, pinned, warn_about
from initclient.recipes import Recipe
from initclient.torch._checking import Part, Processes, together
from initclient.torch._defaults import default, padding_rows
from initclient.torch._doubts import Decision, Guesses, builder_for, doubts, some, uncalled
from initclient.torch._keeping import globs_of, left_out, unmatched
from initclient.torch._layers import notes
from initclient.torch._layouts import fits
from initclient.torch._model import Member, OwnCode, class_name, members
from initclient.torch._recipes import ModelRecipe, fitting_recipe
from initclient.torch._record import Recorded
from initclient.torch._rules import Rule, given, keep

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def plan(
    model: nn.Module | Recorded,
    rules: Iterable[Rule] = (),
    *,
    seed: int = 0,
    dtype: Any = None,
    zero_padding: bool = True,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    recipe_arguments: Mapping[str, Any] | None = None,
    only: str | Iterable[str] | None = None,
    join: bool = False,
    group: ProcessGroup | None = None,
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
        recipe: rules for this kind of model: a name, such as "xavier" (`initclient recipes` lists
            them), the path of a YAML file, or the result of `initclient.recipes.load`.
        recipe_arguments: values for the recipe's arguments, such as {"gain": 0.5}.
        only: a glob for the names that the plan is for, or several, such as "*.lora_*"; `*` also
            matches dots, and a tied tensor matches by any of its names. All others are kept as
            they are, as under the rule `keep`, and need no rule. None means all.
        join: the processes of the group hold parts of one model, such as pipeline stages or
            experts, under the names of the whole model: every process makes this call, and the
            plan is that of all parts.
        group: the processes whose parts are joined; None means all.

    Returns:
        The plan of the state dict's tensors, in its order. A tensor that has several names (tied
        weights) is drawn once: the later names have the first name's stream. Buffers without a
        rule are left out; `init_` calls the module's own code to compute them. A tensor has the
        same values in the plan of a part as in the plan of the whole model. A joined plan is the
        same on every process, in an order that does not depend on how the model is cut.

    Raises:
        PlanError: naming every parameter that no rule covers, and everything else that is
            wrong with the plan; naming those that would get torch's default though a module around
            them has an initialization of its own, with the line that records it; for a glob of
            `only` that matches nothing, with a close one; on every process, naming each tensor of
            which joined parts have different plans.
        InitserveError: if another process, whose part is joined, has an error or does not call.
        TypeError: for a model that is no module, a rule that is no `Rule`, or an initializer that
            does not take its arguments.
        ValueError: for a group without `join`, or one that this process is not in.

    Warns:
        PlanWarning: for rules without effect; for buffers of the state dict that are left out; for
            frozen parameters and weights of norms that are drawn at random, and that no rule
            singles out; and where a rule's scheme ignores what the layer knows of its weight:
            transposed axes, groups, stacked gates. Where parts are joined, if stages seem to number
            their layers anew.
        FutureWarning: for recipes that repeat a library's code, which `record` reads instead.

    Example:
        >>> import initclient as ic
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> plan = ict.plan(nn.Linear(4, 2), [ict.rule("bias", ic.zeros)], seed=7)
        >>> plan.tensors["weight"].scheme, plan.tensors["bias"].scheme
        ('kaiming_uniform', 'zeros')
    """
    if group is not None and not join:
        raise ValueError("group= is for the processes whose parts are joined; give join=True too")
    processes = Processes.of(group, local=not join)
    draft: _Draft | None = None
    part: Part | None = None
    error: Exception | None = None
    try:
        draft = _drafted(
            model, listed(rules), seed, dtype, zero_padding, recipe, recipe_arguments, only, join
        )
        part = Part(draft.plan(), tuple(draft.missing))
    except Exception as failure:
        if not join:
            raise
        # The other processes wait in `together`, which sends them the error.
        error = failure
    doubted: list[str] = []
    if join:
        part, doubted = together(processes, error, part)
    assert draft is not None
    assert part is not None
    if absent := [one for key in part.missing if (one := draft.unmatched.get(key))]:
        raise PlanError(absent)
    texts = [text for key in part.missing if (text := draft.missing.get(key))]
    for text in (*texts, *draft.warnings(), *doubted):
        warnings.warn(text, PlanWarning, stacklevel=2)
    if draft.recipe is not None and draft.recipe.deprecation:
        # For the people who run a program, so not a DeprecationWarning, which Python hides.
        warn_about([draft.recipe.deprecation], FutureWarning)
    return part.plan


def _drafted(
    model: nn.Module | Recorded,
    rules: tuple[Rule, ...],
    seed: int,
    dtype: Any,
    zero_padding: bool,
    recipe: str | os.PathLike[str] | Recipe | None,
    recipe_arguments: Mapping[str, Any] | None,
    only: str | Iterable[str] | None,
    is_part: bool,
) -> _Draft:
    """The draft of a model's plan, or of that of a part of it, without violations."""
    recorded = model if isinstance(model, Recorded) else None
    whole = model.model if isinstance(model, Recorded) else model
    every = members(whole)
    found = [member for member in every if member.persistent]
    draft = _Draft(rules, dtype, padding_rows(found) if zero_padding else {}, recorded, seed)
    globs = only if only is None or isinstance(only, str) else globs_of(only)
    draft.unmatched = unmatched(every, globs)
    if draft.unmatched and not is_part:
        raise PlanError(draft.unmatched.values())
    outside = left_out(every, globs)
    if recipe is not None:
        draft.recipe = ModelRecipe(recipe, found, recipe_arguments)
    elif recipe_arguments:
        raise TypeError("recipe_arguments belong to a recipe; give recipe= too")
    for member in every:
        if id(member.tensor) in outside:
            draft.leave(member)
        elif member.persistent:
            draft.add(member)
    draft.settle_norms()
    if draft.violations:
        raise PlanError(draft.violations)
    return draft


class _Draft:
    """Collects a plan's tensors, violations and warnings, member by member."""

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
        return tensor

    def _padded(self, member: Member, tensor: Tensor) -> Tensor:
        rows = self._padding.get(id(member.tensor))
        if not rows or tensor.scheme in ("zeros", "pretrained"):
            return tensor
        return replace(tensor, zero_rows=tuple(sorted({*(tensor.zero_rows or ()), *rows})))

    def _kind(self, member: Member) -> Any:
        kind = member.tensor.dtype
        return self.dtype if self.dtype is not None and kind.is_floating_point else kind
