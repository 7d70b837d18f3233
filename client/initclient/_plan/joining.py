"""Joins plans of parts of one model, such as pipeline stages, into the plan of the whole model."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any, TypeAlias

from initcore import Plan, PlanError, Tensor, Violation

from initclient._plan.keeping import KeepingPlan, kept

_Path: TypeAlias = tuple[str, ...]


def joined(parts: Mapping[str, Plan]) -> Plan:
    """The plan of all tensors of some plans.

    Args:
        parts: the plans, by names for error messages, such as "rank 1".

    Returns:
        Their tensors, each once. The order is that of the whole model's state dict, as far as the
        parts tell it, and does not depend on how the model was cut: modules in the order in which
        the parts have them, numbered ones by their numbers.

    Raises:
        PlanError: naming every tensor that two plans have with different values, and if their
            seeds differ.
    """
    if violations := _conflicts(parts):
        raise PlanError(violations)
    plans = list(parts.values())
    tensors = {name: tensor for plan in plans for name, tensor in plan.tensors.items()}
    ordered = {name: tensors[name] for name in merged([list(plan) for plan in plans])}
    first, *others = [dict(plan.provenance) for plan in plans]
    provenance = {
        key: text for key, text in first.items() if all(one.get(key) == text for one in others)
    }
    if stays := merged([kept(plan) for plan in plans]):
        return KeepingPlan(ordered, plans[0].seed, tuple(stays), provenance=provenance)
    return Plan(ordered, plans[0].seed, provenance=provenance)


def merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """The names of all lists, each once, in the order of the model that the lists are parts of.

    A state dict has everything below a module together. So names are compared part by part, from
    the front: "layers.10.weight" is in "layers", and there in "10".
    """
    if len(lists) == 1:
        return list(lists[0])
    return [
        ".".join(path) for path in _paths([[tuple(n.split(".")) for n in one] for one in lists])
    ]


def _paths(lists: Sequence[Sequence[_Path]]) -> list[_Path]:
    found: list[_Path] = []
    below: dict[str, list[list[_Path]]] = {}
    leaves: set[str] = set()
    for one in lists:
        own: dict[str, list[_Path]] = {}
        for head, *rest in one:
            if rest:
                own.setdefault(head, []).append(tuple(rest))
            else:
                leaves.add(head)
        for head, paths in own.items():
            below.setdefault(head, []).append(paths)
    for head in _siblings([list(dict.fromkeys(path[0] for path in one)) for one in lists]):
        if head in leaves:
            found.append((head,))
        found += [(head, *path) for path in _paths(below[head])] if head in below else []
    return found


def _siblings(lists: Sequence[Sequence[str]]) -> list[str]:
    """Names in an order that keeps that of each list; numbers by size, others as they appear."""
    place: dict[str, int] = {}
    after: dict[str, set[str]] = {}
    waits: dict[str, int] = {}
    for one in lists:
        for name in one:
            place.setdefault(name, len(place))
        for name, following in pairwise(one):
            if following not in after.setdefault(name, set()):
                after[name].add(following)
                waits[following] = waits.get(following, 0) + 1

    def key(name: str) -> tuple[bool, int, str]:
        is_number = name.isdecimal()
        return is_number, int(name) if is_number else place[name], name

    ready = [key(name) for name in place if not waits.get(name)]
    heapq.heapify(ready)
    left, found = dict.fromkeys(place), []
    while left:
        # Lists that contradict each other leave nothing ready: then the first one goes on.
        name = heapq.heappop(ready)[2] if ready else next(iter(left))
        if name not in left:
            continue
        del left[name]
        found.append(name)
        for following in after.get(name, ()):
            waits[following] -= 1
            if not waits[following] and following in left:
                heapq.heappush(ready, key(following))
    return found


def _conflicts(parts: Mapping[str, Plan]) -> list[Violation]:
    """What two plans say differently."""
    found: dict[str, Violation] = {}
    owners: dict[str, tuple[str, Tensor]] = {}
    keepers = {name: part for part, plan in reversed([*parts.items()]) for name in kept(plan)}
    (first, plan), *others = parts.items()
    for part, other in others:
        if other.seed != plan.seed:
            message = f"is {plan.seed} on {first} and {other.seed} on {part}; give the same one"
            found.setdefault("", Violation("", "seed", message))
    for part, plan in parts.items():
        for name, tensor in plan.tensors.items():
            owner, first_seen = owners.setdefault(name, (part, tensor))
            if name in keepers:
                message = f"is kept on {keepers[name]} and planned on {part}; give the same rules"
                found.setdefault(name, Violation(name, "keep", message))
            elif first_seen is not tensor and first_seen != tensor:
                found.setdefault(name, _difference(name, (owner, first_seen), (part, tensor)))
    return list(found.values())


def _difference(name: str, one: tuple[str, Tensor], other: tuple[str, Tensor]) -> Violation:
    (first, mine), (second, theirs) = one, other
    field = next(
        field for field in _fields() if _differ(getattr(mine, field), getattr(theirs, field))
    )
    message = (
        f"is {_shown(getattr(mine, field))} on {first} and {_shown(getattr(theirs, field))} on "
        f"{second}; give the same rules on every process, and names of the whole model"
    )
    return Violation(name, field, message)


def _fields() -> Iterable[str]:
    return [field.name for field in fields(Tensor)]


def _differ(one: Any, other: Any) -> bool:
    # 0.0 and -0.0 are equal and have different bits.
    return bool(one != other) or repr(one) != repr(other)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
