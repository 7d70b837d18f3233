"""The ledger of a soak: how often each call and event happened, and which promises broke."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter


class Ledger:
    """Counts of calls and events, and broken promises, from all threads.

    Attributes:
        calls: results that were compared, by the kind of call.
        events: events by their kind.
        broken: a sentence for each promise that broke.
        slowest: seconds of the slowest call of each kind.
        begun: when each event began, by the monotonic clock, with its kind.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.broken: list[str] = []
        self.slowest: dict[str, float] = {}
        self.begun: list[tuple[float, str]] = []
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def called(self, kind: str, seconds: float) -> None:
        """Notes a call whose result was right."""
        with self._lock:
            self.calls[kind] += 1
            self.slowest[kind] = max(self.slowest.get(kind, 0.0), seconds)

    def happened(self, kind: str) -> None:
        """Notes an event."""
        with self._lock:
            self.events[kind] += 1

    def begins(self, event: str) -> None:
        """Notes that an event begins."""
        with self._lock:
            self.begun.append((time.monotonic(), event))

    def around(self, begin: float, end: float, before: float = 8.0) -> str:
        """When a time was, and the events that began in it or shortly before it."""
        events = [
            f"{kind} at {moment - self._began:.1f} s"
            for moment, kind in self.begun
            if begin - before < moment < end
        ]
        when = f"from {begin - self._began:.1f} s to {end - self._began:.1f} s"
        return f"{when}, after {', '.join(events) or 'no event'}"

    def broke(self, promise: str, error: BaseException | None = None) -> None:
        """Notes a broken promise, and prints it at once."""
        text = f"after {time.monotonic() - self._began:.1f} s: {promise}"
        if error is not None:
            text += ": " + "".join(traceback.format_exception(error)).strip()
        with self._lock:
            self.broken.append(text)
        print(f"BROKEN {text}", flush=True)
