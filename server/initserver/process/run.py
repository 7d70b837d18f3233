"""A server in the foreground: from its start until a signal comes and it has drained."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from initserver.process.memory import settle
from initserver.process.server import Server
from initserver.process.signals import Signals


def run_until_signalled(server: Server, announce: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM, then lets running downloads finish.

    The first signal drains for at most the configured grace; the second one ends the
    process at once, with the exit status that shells give to that signal.

    Args:
        server: a server that has not started.
        announce: called once it is ready; the signal handlers are in place by then.
    """
    with Signals(on_second=lambda: None) as signals:
        server.start()
        settle(server.is_idle)
        announce()
        while not signals.count:
            signals.wait()
        # In another thread, so that this one can receive the second signal.
        drained = threading.Event()
        threading.Thread(target=_drain, args=(server, signals, drained), daemon=True).start()
        while not drained.is_set():
            signals.wait()


def _drain(server: Server, signals: Signals, drained: threading.Event) -> None:
    try:
        server.drain()
    finally:
        drained.set()
        signals.wake()


def leave(status: int) -> None:
    """Ends the process without waiting for threads.

    A thread that computes a large matrix cannot be interrupted, and its result has no use once
    the grace is over; Python would wait for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
