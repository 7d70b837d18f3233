"""Tensors that repeat, such as those of a model's layers, as one row of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from initcore.show.description import TensorDescription

_NUMBER = re.compile(r"\d+")


def pattern(name: str) -> str:
    """A name with * for the numbers in it."""
    return _NUMBER.sub("*", name)


@dataclass(frozen=True)
class Group:
    """Tensors that differ only in the numbers in their names, and in their places.

    Attributes:
        name: the name of a single tensor; of several, the name with * for the numbers.
        first: the first of them.
        count: how many there are.
        nbytes: bytes of all.
    """

    name: str
    first: TensorDescription
    count: int
    nbytes: int


def groups(tensors: Iterable[TensorDescription]) -> list[Group]:
    """The groups of a plan's tensors, in the order of their first ones."""
    found: dict[Any, list[TensorDescription]] = {}
    for tensor in tensors:
        found.setdefault(_key(tensor), []).append(tensor)
    return [
        Group(
            pattern(members[0].name) if len(members) > 1 else members[0].name,
            members[0],
            len(members),
            sum(member.nbytes for member in members),
        )
        for members in found.values()
    ]


def each(tensors: Iterable[TensorDescription]) -> list[Group]:
    """A group for each tensor."""
    return [Group(tensor.name, tensor, 1, tensor.nbytes) for tensor in tensors]


_shown = attrgetter(
    *("dtype", "shape", "shard_shape", "scheme", "fan_in", "fan_out", "mean", "std"),
    *("low", "high", "fingerprint", "zero_rows"),
)


def _key(tensor: TensorDescription) -> Any:
    origin = tensor.origin and pattern(tensor.origin)
    parts = tuple(map(_key, tensor.parts)) if tensor.parts else ()
    return pattern(tensor.name), _shown(tensor), origin, parts
