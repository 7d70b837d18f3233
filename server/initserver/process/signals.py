"""Lets the main thread wait for SIGINT and SIGTERM, whichever thread receives them.

Python runs handlers in the main thread only, and a main thread that waits for a lock stays
asleep if the system hands the signal to another thread, such as one of gRPC's. So the main
thread waits at a socket instead, to which Python's own C code writes the signal's number.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """A context that handles both signals. For the main thread.

    Args:
        on_second: called on the second signal, before the process ends at once with the exit
            status that shells give to that signal. None means that later signals do nothing.

    Attributes:
        count: signals received.
    """

    def __init__(self, on_second: Callable[[], None] | None) -> None:
        self.count = 0
        self._on_second = on_second
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[int, Any] = {}
        self._fd_before = -1

    def fileno(self) -> int:
        """A file descriptor that is readable when `wait` would return."""
        return self._reader.fileno()

    def wait(self) -> None:
        """Waits for a signal, or for `wake`; returns at once if one has come since the last."""
        self._reader.recv(1)

    def wake(self) -> None:
        """Ends a wait, from any thread."""
        self._writer.send(b"\0")

    def __enter__(self) -> Signals:
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._reader.close()
        self._writer.close()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1 and self._on_second is not None:
            self._on_second()
            os._exit(128 + number)
