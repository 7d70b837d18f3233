"""Work in batches of a bounded size, and its progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from initcore.file import Progress


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


class Track:
    """The progress of work that consists of several steps.

    Args:
        total: bytes in all.
        progress: called with the bytes done and in all, if given.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, nbytes: int) -> None:
        """Reports that a step of so many bytes is done."""
        self._done += nbytes
        if self._progress:
            self._progress(self._done, self._total)

    def step(self, nbytes: int) -> Progress | None:
        """The progress of a download of so many bytes of a file, as part of the whole."""
        if self._progress is None:
            self._done += nbytes
            return None
        progress, before = self._progress, self._done
        self._done += nbytes
        # A download counts the rest of its file as being there.
        return lambda done, size: progress(before + done - (size - nbytes), self._total)
