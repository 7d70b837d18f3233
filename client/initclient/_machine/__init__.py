"""The machine below a client: clock, draws, threads, channels, calls on files, bars of progress.

A simulation puts its own in place, so that one seed decides all of them.
"""

from initclient._machine.calls import fcntl, os
from initclient._machine.machine import Event, Machine, Task, here, running_on
from initclient._machine.progress import ProgressLike, check_progress, shown

__all__ = [
    "Event",
    "Machine",
    "ProgressLike",
    "Task",
    "check_progress",
    "fcntl",
    "here",
    "os",
    "running_on",
    "shown",
]
