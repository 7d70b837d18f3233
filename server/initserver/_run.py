"""A server in the foreground: from start until it has been told to stop and has drained."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from initserver._server import Server

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_until_signalled(server: Server) -> None:
    """Serves until SIGINT or SIGTERM, then lets running downloads finish.

    The first signal drains for at most the configured grace; the second one ends the
    process at once, with the exit status that shells give to that signal.

    Args:
        server: a server that has started.
    """
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            # Threads that make a large matrix cannot be interrupted in any other way.
            os._exit(128 + number)
        asked.set()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        asked.wait()
        server.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
