"""Ends a command cleanly on SIGTERM: as an exception that cannot get lost."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Seconds after which a SIGTERM whose exception got lost is raised once more.
_AGAIN = 0.2


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Raises SystemExit(143) where the main thread is when SIGTERM arrives.

    As an exception it lets fetch_file keep or remove its partial file on the way out. The
    exception may be raised inside a call that C code makes back into Python, such as an import,
    and C code may drop it: gRPC 1.72 does. It is raised again until it is on its way.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with _raised_again():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # Windows has no timers.
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    raise SystemExit(128 + signal.SIGTERM)


def _terminate_again(number: int, frame: FrameType | None) -> None:
    # During the clean-up of the main thread, `sys.exception()` is the one of its way out.
    if sys.exception() is None:
        raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def _raised_again() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, _terminate_again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
