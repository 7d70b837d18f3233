"""Tensors that repeat, such as those of a model's layers, as one kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from initcore.file import Entry
from initcore.resolve import Composed, Constant, Resolved
from initcore.show import pattern


@dataclass(frozen=True)
class Kind:
    """Tensors that differ only in the numbers in their names, and in their values.

    Attributes:
        name: the name of a single tensor; of several, the name with * for the numbers.
        entries: the tensors, in the plan's order.
    """

    name: str
    entries: tuple[Entry, ...]

    @property
    def first(self) -> Resolved:
        """The tensor whose figures are drawn for all."""
        return self.entries[0].tensor

    @property
    def is_constant(self) -> bool:
        """Whether there is no distribution to draw: one value throughout, or no elements."""
        return is_constant(self.first) or not self.first.count


def is_constant(tensor: Resolved) -> bool:
    """Whether every element is one value."""
    if isinstance(tensor.content, Composed):
        values = {part.parameters.low for part in tensor.parts}
        return len(values) == 1 and all(is_constant(part) for part in tensor.parts)
    return isinstance(tensor.content, Constant) or tensor.dtype.kind != "float"


def kinds(entries: Iterable[Entry]) -> list[Kind]:
    """The kinds of a plan's tensors, in the order of their first ones."""
    found: dict[Any, list[Entry]] = {}
    for entry in entries:
        found.setdefault(_key(entry.tensor), []).append(entry)
    return [_kind(members) for members in found.values()]


def _kind(members: list[Entry]) -> Kind:
    name = members[0].tensor.name
    return Kind(name if len(members) == 1 else pattern(name), tuple(members))


def _key(tensor: Resolved) -> Any:
    arguments = {k: v for k, v in tensor.arguments.items() if k != "source"}
    own = (tensor.scheme, tensor.shape, tensor.shard_shape, tensor.dtype.name, repr(arguments))
    parts = tuple(_key(part) for part in tensor.parts)
    return pattern(tensor.name), own, len(tensor.zero_rows), parts
