"""Cells: elements of one law, which draws they are, and the rectangles that they fill."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from initclient._laws.distributions import Law
from initclient._laws.sources import Source

Bounds: TypeAlias = tuple[tuple[int, int], ...]
"""(start, stop) in each dimension."""


class NotUnderstoodError(Exception):
    """An expression has no form that a plan could have.

    Attributes:
        expression: the part of it that has none, as the recording has it.
        is_final: whether looking at single elements would not help either.
    """

    def __init__(self, reason: str, expression: Any, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.expression = expression
        self.is_final = is_final


@dataclass(frozen=True)
class Use:
    """Elements of a draw, each at most once.

    Attributes:
        draw: the draw's number.
        places: which of them, and in which order: steps from the draw to here.
        is_repeated: whether the draw repeats numbers of this one, and is not it.
        start: where in the random generator they begin, as the recording has it.
    """

    draw: int
    places: tuple[Any, ...] = ()
    is_repeated: bool = field(default=False, compare=False)
    start: Any = field(default=None, compare=False, repr=False)

    def at(self, *place: Any) -> Use:
        """A part of these elements, or another order of them."""
        return replace(self, places=(*self.places, place))

    def is_apart_from(self, other: Use) -> bool:
        """Whether they surely have no element in common."""
        if self.draw != other.draw:
            return True
        for mine, theirs in zip(self.places, other.places, strict=False):
            if mine != theirs:
                return mine[0] == theirs[0] == "part" and are_apart(mine[1], theirs[1])
        return False


@dataclass(frozen=True)
class Cell:
    """Elements of one law.

    Attributes:
        law: the law.
        uses: the draws that they are.
        changes: arithmetic from the draw to them, as text.
        sources: the lines that drew and changed them, the first one first.
    """

    law: Law
    uses: tuple[Use, ...] = ()
    changes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = field(default=(), compare=False)

    def changed(self, law: Law, change: str, source: Source | None) -> Cell:
        """The cell after arithmetic."""
        sources = self.sources if source is None else (*self.sources, source)
        return Cell(law, self.uses, (*self.changes, change), sources)

    def placed(self, *place: Any) -> Cell:
        """The cell with other places of its draws."""
        return replace(self, uses=tuple(use.at(*place) for use in self.uses))


@dataclass(frozen=True)
class Patch:
    """A rectangle of a tensor, of one law.

    Attributes:
        bounds: (start, stop) in each dimension.
        cell: its law. A law of whole matrices has the shape of the rectangle.
    """

    bounds: Bounds
    cell: Cell


def are_apart(one: Bounds, other: Bounds) -> bool:
    """Whether two rectangles have no element in common."""
    pairs = zip(one, other, strict=False)
    return any(a[1] <= b[0] or b[1] <= a[0] for a, b in pairs)
