"""Which tensors of a model hold which draws: a plan draws two that overlap apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from initclient._laws.cells import Use
from initclient._laws.composition import Composition, blocks


class Holders:
    """The tensors, by the draws that they hold."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[str, Use]]] = {}

    def overlaps(self, uses: Iterable[Use]) -> Iterator[tuple[str, Use, Use]]:
        """Earlier tensors that hold elements of these, in the order of both.

        Args:
            uses: the elements of draws that a tensor holds.

        Yields:
            The earlier tensor's name, the elements here, and those that it holds.
        """
        for use in uses:
            for name, other in self._held.get(use.draw, ()):
                if not use.is_apart_from(other):
                    yield name, use, other

    def take(self, name: str, uses: Iterable[Use]) -> None:
        """Notes that a tensor holds elements of draws."""
        for use in uses:
            self._held.setdefault(use.draw, []).append((name, use))


def uses_of(composition: Composition) -> list[Use]:
    """The elements of draws that a composition was found as."""
    cells = (cell for block in blocks(composition) for cell in block.cells)
    return [use for cell in cells for use in cell.uses]
