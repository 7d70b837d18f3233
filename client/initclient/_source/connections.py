"""Connections that stay open between calls, and are closed before the process forks."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Protocol

# Threads of gRPC's core, by the names that they give themselves on Linux.
_GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim", "grpc_shutdown", "lifeguard"})
_TASKS = Path("/proc/self/task")

# A listing of threads can miss some while others end, so that one clean listing says little.
_CLEAN_LISTINGS = 5
_LISTING_PAUSE = 0.001
_LONGEST_WAIT = 0.5

# Where threads have no names to read: ten times what gRPC was seen to need.
_BLIND_WAIT = 0.05


class Connection(Protocol):
    """An open connection."""

    def close(self) -> None:
        """Ends it."""


class Connections:
    """Idle connections by key, for the next call. Threads may share it."""

    def __init__(self) -> None:
        # No lock, which a fork might copy locked: each step is one operation of a container.
        self._idle: dict[Hashable, deque[Any]] = {}
        _pools.add(self)

    def take(self, key: Hashable) -> Any | None:
        """An idle connection, which belongs to the caller from now on; None if there is none."""
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
    """What has to happen around a fork.

    A child that inherits gRPC's core at work crashes or hangs now and then, since the core's
    threads are not there in the child and its locks stay as they were. So before a fork all
    idle connections are closed and the core is given time to end its threads. A call that
    another thread is making cannot be helped.

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
    """Says that a connection is being opened in this process."""
    _fork.used = True


def _wait_for_threads_to_end() -> bool:
    """Whether gRPC's threads have ended; False if some stay, of somebody else's connections."""
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
            # It has ended meanwhile.
            continue
    return names


_pools: weakref.WeakSet[Connections] = weakref.WeakSet()
_fork = _Fork()
