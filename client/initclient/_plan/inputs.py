"""The forms in which users pass a plan, and the layout of its file."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from initcore import Layout, Plan, Tensor, layout, load_plan
from initcore.resolve import Resolved, resolve

from initclient._exceptions import PlanWarning
from initclient._plan.model import Model

PlanLike: TypeAlias = Plan | Mapping[str, Tensor] | str | os.PathLike[str] | Model
"""A Plan, a dict of tensors by name, the path of a plan file, or a server's `ic.Model`."""

# The limit on whole matrices protects the memory of the process that computes them. If that is a
# server, the server's own limit counts.
_NO_MATRIX_LIMIT = 2**63 - 1


def as_plan(plan: PlanLike, seed: int | None = None) -> Plan:
    """The plan, with this seed if one is given.

    Raises:
        TypeError: for anything that is not a plan.
        OSError, PlanError: if a plan file cannot be read or is wrong.
    """
    if isinstance(plan, str | os.PathLike):
        plan = load_plan(Path(plan))
    elif isinstance(plan, Mapping):
        plan = Plan(plan)
    elif isinstance(plan, Model):
        raise TypeError(
            f"the plan is {plan!r}, a model of a server, which is not looked up here; give its "
            "plan, as ic.get_plan(model, target=...)"
        )
    elif not isinstance(plan, Plan):
        raise TypeError(
            f"the plan is {plan!r}; give a Plan, a dict from names to tensors, or the path of a "
            "plan file"
        )
    return plan if seed is None else plan.with_seed(seed)


def lay_out(plan: PlanLike, seed: int | None, *, local: bool) -> Layout:
    """The layout of a plan's file; checks the plan.

    Args:
        plan: the plan.
        seed: replaces the plan's seed, if given.
        local: whether this process makes the values, not a server.

    Raises:
        PlanError: with everything that is wrong with the plan.
    """
    checked = as_plan(plan, seed)
    return layout(checked) if local else layout(checked, _NO_MATRIX_LIMIT)


def check_plan(plan: Plan, *, local: bool = False) -> list[Resolved]:
    """The plan's tensors, resolved; refuses a wrong plan.

    Args:
        plan: the plan.
        local: whether this process makes the values, not a server.

    Raises:
        PlanError: with everything that is wrong with it.
    """
    return resolve(plan) if local else resolve(plan, _NO_MATRIX_LIMIT)


def warn_about(texts: Iterable[str], kind: type[Warning] = PlanWarning) -> None:
    """Issues warnings with the line of the first caller outside this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    for text in texts:
        warnings.warn(text, kind, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
