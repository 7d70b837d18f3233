"""The entry points of the commands `initclient` and `initserver`: Ctrl-C is one line from here on.

They stand in a package that imports nothing, since importing the commands takes most of the time
until they run. An exception is no way out of there: a half-imported module turns it into another
error, or prints it and goes on. So a signal ends the process at once; nothing is open yet.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 128 + signal.SIGINT


def initclient() -> int:
    """Runs the command `initclient` and returns its exit status."""
    with_one_line("initclient")
    from initclient.cli import main

    return _over(main())


def initserver() -> int:
    """Runs the command `initserver` and returns its exit status."""
    with_one_line("initserver")
    from initserver.cli import main

    return _over(main())


def with_one_line(command: str) -> None:
    """Has Ctrl-C print one line and end the process, until the command handles it itself."""

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{command}: error: interrupted\n".encode())
        os._exit(_INTERRUPTED)

    # Shells have background jobs ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)


def _over(status: int) -> int:
    """Has Ctrl-C end the process quietly: all that is left is Python's own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(status))
    return status
