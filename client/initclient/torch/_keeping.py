"""Parameters and buffers that `init_` leaves as they are: by `keep` rules, or by `keep=`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from initcore import Plan, PlanError, Violation
from torch import nn

from initclient._plan import kept
from initclient.torch._model import Member, is_computable, members, overlaps


def kept_names(
    found: Sequence[Member],
    plan: Plan,
    keep: str | Iterable[str],
    given: Collection[str],
    partial: bool,
) -> set[str]:
    """Names in the model of what stays as it is.

    Args:
        found: the model's members.
        plan: the plan, whose `keep` rules count.
        keep: a glob for more names, or several.
        given: names whose values are handed in, which counts more.
        partial: whether the model may lack what a glob is for.

    Raises:
        PlanError: for a glob that matches nothing, for what has no values, and for what would
            not stay, because it is or lies in a tensor that is filled.
    """
    globs = (keep,) if isinstance(keep, str) else tuple(keep)
    names = {member.name for member in found}
    violations = [
        Violation("", "keep", f"has {glob!r}, which no parameter or buffer of the model matches")
        for glob in globs
        if not partial and not any(fnmatchcase(name, glob) for name in names)
    ]
    by_glob = {name for name in names if any(fnmatchcase(name, glob) for glob in globs)}
    stays = (by_glob | (names & set(kept(plan)))) - set(given)
    filled = [
        m for m in found if m.name not in stays and (m.name in plan.tensors or m.name in given)
    ]
    drawn = {id(member.tensor): member.name for member in filled}
    for member in found:
        if member.name not in stays:
            continue
        if member.tensor.is_meta:
            message = (
                "is to stay as it is, and is on the meta device, where nothing has values; load "
                "its values first, or have a rule draw it"
            )
            violations.append(Violation(member.name, "keep", message))
        if other := drawn.get(id(member.tensor)):
            message = f"is to stay as it is, and is tied to {other!r}, which is filled"
            violations.append(Violation(member.name, "keep", message))
    if stays:
        violations += _overwritten(found, filled, stays)
    if violations:
        raise PlanError(violations)
    return stays


@contextmanager
def preserved(model: nn.Module, names: Collection[str], near: Sequence[Member]) -> Iterator[None]:
    """Undoes what modules do to other tensors while they compute buffers, also after an error.

    Their code may replace a parameter by a new one, which breaks ties and may have another
    element type: the old one is put back. Tensors that stay as they are get their values back.

    Args:
        model: the model.
        names: the tensors that stay as they are.
        near: the buffers that are computed.
    """
    if not near:
        # No code of a module runs.
        yield
        return
    computed = {member.name for member in near}
    before = [member for member in members(model) if member.name not in computed]
    owners = {id(member.owner) for member in near if is_computable(member)}
    values = [
        (member, member.layout.local().clone())
        for member in before
        if member.name in names and any(id(module) in owners for module in member.path)
    ]
    try:
        yield
    finally:
        for member in before:
            if getattr(member.owner, member.attribute) is not member.tensor:
                # Through setattr, since recurrent modules keep a second list of their weights.
                setattr(member.owner, member.attribute, member.tensor)
        with torch.no_grad():
            for member, value in values:
                member.layout.local().copy_(value)


def _overwritten(
    found: Sequence[Member], filled: Sequence[Member], stays: Collection[str]
) -> Iterator[Violation]:
    written = {member.name for member in filled}
    for pair in overlaps([m for m in found if m.name in stays or m.name in written]):
        here = sorted(member.name for member in pair if member.name in stays)
        there = [member.name for member in pair if member.name in written]
        if here and there:
            message = (
                f"is to stay as it is, and shares memory with {there[0]!r}, which is filled; make "
                "them copies"
            )
            yield Violation(here[0], "keep", message)
