"""Work in batches of a bounded size, and its progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from initcore.file import Progress


class Sized(Protocol):
    """Has a size in bytes."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


S = TypeVar("S", bound=Sized)


def batches(items: Iterable[S], most: int) -> Iterator[list[S]]:
    """The items in order, in lists of at most `most` bytes, or of one larger item."""
    batch: list[S] = []
    size = 0
    for item in items:
        nbytes = item.nbytes
        if batch and size + nbytes > most:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += nbytes
    if batch:
        yield batch


class Track:
    """The progress of work that consists of several steps.

    Args:
        total: bytes in all.
        progress: called with the bytes done and in all, if given.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, nbytes: int) -> None:
        """Counts a step of `nbytes` as done, and reports it."""
        self._done += nbytes
        if self._progress:
            self._progress(self._done, self._total)

    def step(self, nbytes: int) -> Progress | None:
        """A callback for the download of `nbytes` bytes of a file, as part of the whole."""
        if self._progress is None:
            self._done += nbytes
            return None
        progress, before = self._progress, self._done
        self._done += nbytes
        # A download counts the rest of its file as done.
        return lambda done, size: progress(before + done - (size - nbytes), self._total)
