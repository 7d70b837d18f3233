"""plan: makes the plan of a model's weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from initcore import Plan, PlanError
from torch import nn

from initclient._exceptions import PlanWarning
from initclient._plan import listed, warn_about
from initclient.recipes import Recipe
from initclient.torch._checking import Part, Processes, together
from initclient.torch._model import members
from initclient.torch._planning.defaults import padding_rows
from initclient.torch._planning.draft import Draft
from initclient.torch._planning.keeping import globs_of, left_out, unmatched
from initclient.torch._planning.recipes import ModelRecipe
from initclient.torch._planning.rules import Rule
from initclient.torch._record import Recorded

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

    No value of the model decides, so the model may be on the meta device. It may be wrapped
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
            singles out; for parameters that get torch's default and have other values in the
            model; and where a rule's scheme ignores what the layer knows of its weight:
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
    draft: Draft | None = None
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
) -> Draft:
    """The draft of a model's plan, or of that of a part of it, without violations."""
    recorded = model if isinstance(model, Recorded) else None
    whole = model.model if isinstance(model, Recorded) else model
    every = members(whole)
    found = [member for member in every if member.persistent]
    draft = Draft(rules, dtype, padding_rows(found) if zero_padding else {}, recorded, seed)
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
