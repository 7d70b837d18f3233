"""Parameters and buffers that stay as they are: by `keep` rules, by `keep=`, or by `only=`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
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


def left_out(found: Sequence[Member], only: str | Iterable[str] | None) -> set[int]:
    """The tensors, by identity, that no glob of a plan's `only` matches under any of their names.

    Args:
        found: the model's members.
        only: a glob for names, or several; None matches all.

    Raises:
        PlanError: if there is no glob.
        TypeError: for a glob that is no string.
    """
    if only is None:
        return set()
    globs = globs_of(only)
    inside = {
        id(member.tensor)
        for member in found
        if any(fnmatchcase(member.name, glob) for glob in globs)
    }
    return {id(member.tensor) for member in found} - inside


def unmatched(found: Sequence[Member], only: str | Iterable[str] | None) -> dict[str, Violation]:
    """The globs of a plan's `only` that match nothing, with what is spelled nearly so.

    Args:
        found: the model's members.
        only: a glob for names, or several; None matches all.

    Raises:
        PlanError: if there is no glob.
        TypeError: for a glob that is no string.
    """
    names = [member.name for member in found]
    message = "has {!r}, which no parameter or buffer of the model matches{}"
    return {
        f"only {glob}": Violation("", "only", message.format(glob, _close(glob, names)))
        for glob in (() if only is None else globs_of(only))
        if not any(fnmatchcase(name, glob) for name in names)
    }


def globs_of(only: str | Iterable[str]) -> tuple[str, ...]:
    """The globs of `only`, one or several.

    Raises:
        PlanError: if there is no glob.
        TypeError: for a glob that is no string, and for what is no list of them.
    """
    if not isinstance(only, Iterable):
        raise TypeError(f"only is {only!r}; give a glob for names, or a list of them")
    globs = (only,) if isinstance(only, str) else tuple(only)
    for glob in globs:
        if not isinstance(glob, str):
            raise TypeError(f"only has {glob!r}; give globs for names, such as '*.lora_A.*'")
    if not globs:
        message = "has no glob; give one for each part of the model, or leave only= out"
        raise PlanError([Violation("", "only", message)])
    return globs


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


def _close(glob: str, names: Sequence[str]) -> str:
    """Globs that match and are spelled nearly so, as a question; "" if there are none."""
    parts = dict.fromkeys(part for name in names for part in name.split("."))
    spelled = [glob]
    for part in re.findall(r"[^.*?]+", glob):
        if part not in parts:
            spelled += [glob.replace(part, one) for one in get_close_matches(part, parts, n=2)]
    for one in spelled:
        bare = one.strip("*.")
        for tried in (one, f"*{bare}", f"{bare}.*", f"*{bare}.*", f"*{bare}*"):
            if bare and any(fnmatchcase(name, tried) for name in names):
                return f"; did you mean {tried!r}?"
    if close := get_close_matches(glob, names, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; its first name is {names[0]!r}" if names else ""
