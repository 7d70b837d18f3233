"""A server in the foreground: from start until it has been told to stop and has drained."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from initserver._server import Server

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_until_signalled(server: Server, announce: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM, then lets running downloads finish.

    The first signal drains for at most the configured grace; the second one ends the
    process at once, with the exit status that shells give to that signal.

    Args:
        server: a server that has not started.
        announce: called once it is ready; signals are taken care of by then.
    """
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        server.start()
        announce()
        asked.wait()
        server.drain()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(status: int) -> None:
    """Ends the process without waiting for threads.

    A thread that makes a large matrix cannot be interrupted, and nobody wants its result
    once the grace is over; Python would wait for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
