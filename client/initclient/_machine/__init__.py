"""The machine below a client: clock, random draws, threads, channels, calls on files.

A simulation puts its own in place, so that one seed decides all of them.
"""

from initclient._machine.calls import fcntl, os
from initclient._machine.machine import Event, Machine, Task, here, running_on

__all__ = ["Event", "Machine", "Task", "fcntl", "here", "os", "running_on"]
