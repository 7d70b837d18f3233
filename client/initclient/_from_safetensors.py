"""plan_from_safetensors: from the header of a checkpoint to a plan of fresh weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from initcore import Plan, PlanError, Tensor, Violation
from initcore.dtypes import DTYPES, canonical_name

from initclient._exceptions import PlanWarning
from initclient._files import Stored, stored_tensors
from initclient._plan import Rule, check_plan, constant_for, listed, new_streams

if TYPE_CHECKING:
    from initclient.recipes._binding import Bound


def plan_from_safetensors(
    path: str | os.PathLike[str],
    rules: Iterable[Rule] = (),
    *,
    recipe: Any = None,
    recipe_arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    dtype: Any = None,
) -> Plan:
    """The plan of fresh weights with the names, shapes and element types of a checkpoint.

    Only headers are read, no values.

    Args:
        path: a safetensors file; a Hugging Face index (`*.safetensors.index.json`) beside its
            files; or a folder that holds either.
        rules: results of `rule`; the first that matches a name decides.
        recipe: a recipe's name (`initclient recipes` lists them), the path of a YAML file, or a
            loaded recipe, for names that no rule matches.
        recipe_arguments: values for the recipe's arguments.
        seed: the plan's seed.
        dtype: element type of all floating-point tensors, instead of the file's.

    Returns:
        The plan, in the order of the header or the index. Tensors that the file stores under
        two names are two tensors.

    Raises:
        PlanError: naming every tensor that neither a rule nor the recipe covers, and everything
            else that is wrong.
        ValueError: if there is no whole safetensors file at the path.
        TypeError: for a rule that is no `Rule`, or whose initializer does not take its
            arguments.
        OSError: if a file cannot be read.

    Warns:
        PlanWarning: for rules without effect, and a recipe that does not seem to fit.

    Example:
        >>> import tempfile
        >>> import initclient as ic
        >>> path = tempfile.mkdtemp() + "/trained.safetensors"
        >>> _ = ic.fetch_file({"fc.weight": ic.ones((4, 2)), "fc.bias": ic.ones((4,))}, path)
        >>> plan = ic.plan_from_safetensors(
        ...     path, [ic.rule("*.bias", ic.zeros), ic.rule("*", ic.normal, std=0.02)], seed=7)
        >>> plan.tensors["fc.weight"].shape, plan.tensors["fc.bias"].scheme
        ((4, 2), 'zeros')
    """
    given = listed(rules)
    for one in given:
        if not isinstance(one, Rule):
            raise TypeError(f"among the rules is {one!r}; make rules with ic.rule(...)")
    stored = stored_tensors(path)
    if recipe is None and recipe_arguments:
        raise ValueError("recipe_arguments are given, but no recipe")
    fallback = None if recipe is None else _bound(recipe, stored, recipe_arguments)
    used: set[int] = set()
    tensors: dict[str, Tensor] = {}
    violations: list[Violation] = []
    advised: set[str] = set()
    for name, found in stored.items():
        kind = _dtype(found.dtype, dtype)
        index = next((i for i, one in enumerate(given) if one.matches_name(name)), None)
        if index is not None:
            used.add(index)
            try:
                tensors[name] = given[index].tensor(name, found.shape, kind)
            except PlanError as error:
                violations += error.violations
            continue
        try:
            tensor = fallback.tensor(name, kind) if fallback else None
        except PlanError as error:
            violations += error.violations
            continue
        if tensor is None:
            violations.append(_uncovered(name, stored, fallback, advised))
        else:
            tensors[name] = tensor
    if violations:
        raise PlanError(violations)
    made = Plan(tensors, seed)
    check_plan(made)
    texts = [
        f"{one!r} has no effect: earlier rules match all of its parameters, or it matches none"
        for index, one in enumerate(given)
        if index not in used
    ]
    texts += new_streams(tensors)
    for text in texts + (fallback.warnings() if fallback else []):
        warnings.warn(text, PlanWarning, stacklevel=2)
    return made


def _bound(recipe: Any, stored: Mapping[str, Stored], arguments: Mapping[str, Any] | None) -> Bound:
    from initclient.recipes import load
    from initclient.recipes._binding import Bound, only_names
    from initclient.recipes._recipe import Parameter

    loaded = load(recipe)
    only_names(loaded)
    return Bound(loaded, [Parameter(name, one.shape) for name, one in stored.items()], arguments)


def _dtype(stored: str, wanted: Any) -> Any:
    known = DTYPES.get(stored)
    if wanted is None or known is None or known.kind != "float":
        return stored
    return canonical_name(wanted)


def _uncovered(
    name: str, stored: Mapping[str, Stored], fallback: Bound | None, advised: set[str]
) -> Violation:
    """The refusal of a tensor. Each kind of advice is given once: models repeat their layers."""
    found = stored[name]
    rule = "no rule" if fallback is None else f"no rule of recipe {fallback.recipe.name}"
    message = f"{rule} covers this tensor, of shape {list(found.shape)} and type {found.dtype}"
    law = constant_for(name.split("."), found.shape) or "normal, std=0.02"
    if found.dtype in DTYPES and DTYPES[found.dtype].kind != "float":
        law = "zeros"
    if law not in advised:
        message += f"; add one, such as rule({name!r}, ic.{law})"
    if not advised:
        message += _other_ways(stored, fallback)
    advised.add(law)
    return Violation(name, "scheme", message)


def _other_ways(stored: Mapping[str, Stored], fallback: Bound | None) -> str:
    """The recipes that fit, and the recording of the model's code."""
    from initclient.recipes._fitting import fitting

    names = fitting({name: one.shape for name, one in stored.items()})
    text = ""
    if names:
        text += f"; or take a recipe that fits these names: {' or '.join(map(repr, names))}"
    elif fallback is not None:
        text += "; or write a recipe that does (`initclient recipes NAME --yaml` is a start)"
    else:
        text += "; or give a recipe (`initclient recipes` lists them)"
    return text + "; or, with the model's code, record it: ict.record(Model, config).plan(seed=...)"
