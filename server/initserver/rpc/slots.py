"""Slots: how many calls compute values at the same time, and which one makes room.

A download whose reader takes nothing keeps its slot as long as no other call needs it. Then
the one that has made no progress for the longest time is ended, if that is at least the limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from initserver.values import Caller

T = TypeVar("T")


class Slot:
    """The slot of one call."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.waits_since = float("inf")
        """When it handed its last message to the transport; infinity while it computes."""

    def following(self, messages: Iterable[T]) -> Iterator[T]:
        """The messages; notes when one has been handed over and the next is not asked for."""
        for message in messages:
            self.waits_since = time.monotonic()
            yield message
            self.waits_since = float("inf")


class Slots:
    """The slots of a server.

    Args:
        count: how many there are.
        stall_seconds: a call whose reader has taken nothing for this long makes room.
    """

    def __init__(self, count: int, stall_seconds: float) -> None:
        self._count = count
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._taken: set[Slot] = set()

    def take(self, caller: Caller) -> Slot | None:
        """A slot for a call, which it has to give back; None if there is none."""
        ended = None
        with self._lock:
            if len(self._taken) >= self._count:
                ended = self._stalled()
                if ended is None:
                    return None
                self._taken.remove(ended)
            slot = Slot(caller)
            self._taken.add(slot)
        if ended:
            ended.caller.end(
                f"the reader took nothing for {self._stall_seconds:g} s and another call needed "
                "the place"
            )
        return slot

    def give_back(self, slot: Slot) -> None:
        """Frees a slot; does nothing if another call has it already."""
        with self._lock:
            self._taken.discard(slot)

    def _stalled(self) -> Slot | None:
        """The call that has made no progress for the longest time, if that is long enough."""
        oldest = min(self._taken, key=lambda slot: slot.waits_since)
        if time.monotonic() - oldest.waits_since < self._stall_seconds:
            return None
        return oldest
