"""Polling on demand: at most once a second while somebody asks, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

# Seconds between the end of a look and the next one.
_EVERY = 1.0

# Seconds that callers wait for a look. Most are done by then, and the callers have what is there
# now; a look at a thousand models of which many have changed takes a second.
_PATIENCE = 0.01

# If the look before is longer ago when one begins, callers wait to its end: nobody has asked for
# so long that what is known may be as old as that.
_OLDEST = 2.0


@dataclass(frozen=True)
class _Running:
    """A look that has not ended.

    Attributes:
        thread: makes it.
        began_at: when it began.
        is_overdue: whether callers have to wait to its end.
    """

    thread: threading.Thread
    began_at: float
    is_overdue: bool


class Poller:
    """Calls a function again and again, in a thread of its own, while somebody asks for it.

    The first look was made by whoever makes this object, just before.

    Args:
        look: looks at what is polled, and keeps what it finds.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._ended_at = time.monotonic()
        self._running: _Running | None = None

    def poll(self, *, wait: bool = False) -> None:
        """Begins a look if one is due, and waits a moment for one that runs.

        Args:
            wait: wait to its end.
        """
        running = self._begun()
        if running is None:
            return
        if wait or running.is_overdue:
            running.thread.join()
        else:
            running.thread.join(max(0.0, running.began_at + _PATIENCE - time.monotonic()))

    def close(self) -> None:
        """Waits for a look that runs."""
        running = self._running
        if running is not None:
            running.thread.join()

    def _begun(self) -> _Running | None:
        with self._lock:
            now = time.monotonic()
            if self._running is None and now - self._ended_at >= _EVERY:
                thread = threading.Thread(target=self._run, name="initserver-models")
                with suppress(RuntimeError):  # no more threads: a later call looks
                    thread.start()
                    self._running = _Running(thread, now, now - self._ended_at > _OLDEST)
            return self._running

    def _run(self) -> None:
        try:
            self._look()
        finally:
            with self._lock:
                self._ended_at = time.monotonic()
                self._running = None
