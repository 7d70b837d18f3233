"""Keep-alive: connections that stay open between calls and close before the process forks."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Protocol

# Names of gRPC core's threads on Linux.
_GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim", "grpc_shutdown", "lifeguard"})
_TASKS = Path("/proc/self/task")

# A listing can miss threads while others end, so one listing without gRPC's proves little.
_CLEAN_LISTINGS = 5
_LISTING_PAUSE = 0.001
_LONGEST_WAIT = 0.5

# Without /proc, a fixed wait: ten times the measured need of gRPC.
_BLIND_WAIT = 0.05


class Connection(Protocol):
    """An open connection."""

    def close(self) -> None:
        """Closes it."""


class Connections:
    """Idle connections by key, for the next call. Threads may share it."""

    def __init__(self) -> None:
        # No lock, since a fork may copy it locked: each step is one operation of a container.
        self._idle: dict[Hashable, deque[Any]] = {}
        _pools.add(self)

    def take(self, key: Hashable) -> Any | None:
        """Removes an idle connection and returns it; None if there is none."""
        try:
            return self._idle[key].pop()
        except (KeyError, IndexError):
            return None

    def keep(self, key: Hashable, connection: Connection) -> None:
        """Keeps a connection for the next call; while the process forks, closes it."""
        if _fork.under_way:
            connection.close()
        else:
            self._idle.setdefault(key, deque()).append(connection)

    def close(self) -> None:
        """Closes all idle connections; the next call opens new ones."""
        for idle in list(self._idle.values()):
            while idle:
                try:
                    idle.pop().close()
                except IndexError:
                    break
        self._idle.clear()


class _Fork:
    """Hooks that run before and after a fork.

    A child that inherits gRPC's core with running threads sometimes crashes or hangs: the child
    lacks the threads and keeps their locks. So before a fork the hook closes all idle
    connections and waits for the core's threads to end. It cannot end a call that another thread
    is making.

    Attributes:
        used: whether a connection was opened since the last fork.
        under_way: whether a fork is being prepared.
    """

    def __init__(self) -> None:
        self.used = self.under_way = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._prepare, after_in_parent=self._end, after_in_child=self._end
            )

    def _prepare(self) -> None:
        if not self.used:
            return
        self.under_way = True
        for pool in list(_pools):
            pool.close()
        self.used = _wait_for_threads_to_end() is False

    def _end(self) -> None:
        self.under_way = False


def note_use() -> None:
    """Notes that this process opens a connection."""
    _fork.used = True


def _wait_for_threads_to_end() -> bool:
    """Whether gRPC's threads have ended; False if some stay, such as those of a call."""
    if not _TASKS.exists():
        time.sleep(_BLIND_WAIT)
        return True
    deadline = time.monotonic() + _LONGEST_WAIT
    clean = 0
    while clean < _CLEAN_LISTINGS:
        clean = 0 if _names_of_threads() & _GRPC_THREADS else clean + 1
        if time.monotonic() > deadline:
            return False
        time.sleep(_LISTING_PAUSE)
    return True


def _names_of_threads() -> set[str]:
    names = set()
    for task in _TASKS.iterdir():
        try:
            names.add((task / "comm").read_text().strip())
        except OSError:
            # The thread has ended meanwhile.
            continue
    return names


_pools: weakref.WeakSet[Connections] = weakref.WeakSet()
_fork = _Fork()
