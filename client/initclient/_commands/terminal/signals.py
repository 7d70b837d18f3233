"""Ends a command cleanly on SIGINT and SIGTERM: by an exception that cannot get lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Seconds after which an exception that got lost, or that had to wait, is raised once more.
_AGAIN = 0.2

_INTERRUPTED = b"initclient: error: interrupted\n"


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raises KeyboardInterrupt on SIGINT, and SystemExit(143) on SIGTERM, in the main thread.

    As an exception it lets fetch_file keep or remove its partial file on the way out. The
    exception may be raised inside a call that C code makes back into Python, and C code may drop
    it: gRPC 1.72 does. It is raised again until it is on its way. While a module is being imported
    it waits: code that imports turns it into another error, or prints it. A second SIGINT ends the
    process at once.
    """
    way_out = _WayOut()
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: way_out.terminate,
        signal.SIGINT: way_out.interrupt,
    }
    # Windows has no timers.
    if hasattr(signal, "setitimer"):
        handlers[signal.SIGALRM] = way_out.raise_again
    # Shells have background jobs ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        del handlers[signal.SIGINT]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    sys.unraisablehook = way_out.drop
    try:
        yield
    finally:
        way_out.make = None
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = way_out.show
        for number, old in before.items():
            signal.signal(number, old)


class _WayOut:
    """The handlers of one command.

    Attributes:
        make: makes the exception that a signal asked for; None before the first signal.
        show: shows an exception that Python cannot raise: the hook before the command.
    """

    def __init__(self) -> None:
        self.make: Callable[[], BaseException] | None = None
        self.show: Callable[[Any], object] = sys.unraisablehook

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Takes SIGINT."""
        if self.make is not None:
            os.write(2, _INTERRUPTED)
            os._exit(128 + signal.SIGINT)
        self._leave(KeyboardInterrupt, frame)

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Takes SIGTERM."""
        self._leave(lambda: SystemExit(128 + signal.SIGTERM), frame)

    def raise_again(self, number: int, frame: FrameType | None) -> None:
        """Raises the exception if it is not on its way."""
        # During the clean-up of the main thread, `sys.exception()` is the one of its way out.
        if self.make is not None and sys.exception() is None and not _is_importing(frame):
            raise self.make()

    def drop(self, unraisable: Any) -> None:
        """Shows an exception that Python cannot raise, unless it is the one that comes again."""
        kind = unraisable.exc_type
        if self.make is None or not issubclass(kind, KeyboardInterrupt | SystemExit):
            self.show(unraisable)

    def _leave(self, make: Callable[[], BaseException], frame: FrameType | None) -> None:
        self.make = make
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            if _is_importing(frame):
                return
        raise make()


def _is_importing(frame: FrameType | None) -> bool:
    """Whether this code runs, directly or not, because a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
