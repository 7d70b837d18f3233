"""Work in batches of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Sized(Protocol):
    """Something that takes memory."""

    @property
    def nbytes(self) -> int:
        """How many bytes."""


S = TypeVar("S", bound=Sized)


def batches(items: Iterable[S], most: int) -> Iterator[list[S]]:
    """The items in order, in lists of at most `most` bytes, or of one item that has more."""
    batch: list[S] = []
    size = 0
    for item in items:
        if batch and size + item.nbytes > most:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.nbytes
    if batch:
        yield batch
