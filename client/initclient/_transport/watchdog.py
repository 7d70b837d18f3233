"""Watchdog: cancels calls that are silent for too long, or all calls at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from initclient._machine import Task, here

# gRPC's blocking calls have no timeout between two messages, so a thread watches them.
_LOOKS_PER_TIMEOUT = 10
_LONGEST_LOOK = 1.0


class Watched:
    """A call that is watched.

    Attributes:
        was_silent: whether it was cancelled because of silence.
    """

    def __init__(self, call: Any) -> None:
        self.was_silent = False
        self._call = call
        # None while the client works on a message, which is no silence of the server.
        self._since: float | None = here().now()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock while the body runs, and restarts it at zero."""
        self._since = None
        yield
        self._since = here().now()

    def end_if_silent(self, timeout: float) -> None:
        """Cancels the call if no message came for `timeout` seconds."""
        since = self._since
        if since is not None and here().now() - since > timeout:
            self.was_silent = True
            self._call.cancel()

    def end(self) -> None:
        """Cancels the call."""
        self._call.cancel()


class Watch:
    """Watches the calls of one download while the body of its `with` runs.

    Args:
        idle_timeout: seconds of silence after which it cancels a call; None means never.
    """

    def __init__(self, idle_timeout: float | None) -> None:
        self._timeout = idle_timeout
        self._stopped = here().event()
        self._lock = threading.Lock()
        # In order of their start, so that a simulation plays alike each time.
        self._calls: dict[Watched, None] = {}
        self._task: Task | None = None

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Cancels all calls and sleeps, future ones too."""
        self._stopped.set()
        with self._lock:
            for watched in self._calls:
                watched.end()

    def sleep(self, seconds: float) -> bool:
        """Waits for `seconds`; returns False, at once, if `stop` was called."""
        return not self._stopped.wait(seconds)

    @contextmanager
    def over(self, call: Any) -> Iterator[Watched]:
        """Watches a call while the body runs."""
        watched = Watched(call)
        with self._lock:
            self._calls[watched] = None
            stopped = self._stopped.is_set()
        if stopped:
            watched.end()
        try:
            yield watched
        finally:
            with self._lock:
                self._calls.pop(watched, None)

    def __enter__(self) -> Watch:
        if self._timeout is not None:
            self._task = here().start(self._run, "initclient-watch")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._task:
            self._task.join()

    def _run(self) -> None:
        assert self._timeout is not None
        while self.sleep(min(_LONGEST_LOOK, self._timeout / _LOOKS_PER_TIMEOUT)):
            with self._lock:
                for watched in self._calls:
                    watched.end_if_silent(self._timeout)
