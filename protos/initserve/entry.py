"""The entry points of the commands `initclient` and `initserver`.

From here on Ctrl-C is one line, and the standard streams are there.

They stand in a package that imports nothing, since importing the commands takes most of the time
until they run. An exception is no way out of there: a half-imported module turns it into another
error, or prints it and goes on. So a signal ends the process at once; nothing is open yet.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TextIO, cast

_INTERRUPTED = 128 + signal.SIGINT


def initclient() -> int:
    """Runs the command `initclient` and returns its exit status."""
    open_streams()
    with_one_line("initclient")
    from initclient.cli import main

    return _over(main())


def initserver() -> int:
    """Runs the command `initserver` and returns its exit status."""
    open_streams()
    with_one_line("initserver")
    from initserver.cli import main

    return _over(main())


def open_streams() -> None:
    """Puts the standard streams that are closed (`>&-`) on the null device.

    Python has None for them, which nothing can print to, and the next file or socket would get
    their descriptors. `sys.__stdin__` and `sys.__stdout__` stay None, which tells a command that
    its data have no place.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is this one. Processes that this one starts have it too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = _null_device("r")
    if sys.stdout is None:
        sys.stdout = _null_device("w")
    if sys.stderr is None:
        sys.stderr = _null_device("w")


def _null_device(mode: str) -> TextIO:
    return cast(TextIO, open(os.devnull, mode, encoding="utf-8"))


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
