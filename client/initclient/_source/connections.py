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

# Idle connections to one address: as many as calls at the same time are usual.
_MOST_IDLE = 8

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
        self._idle: dict[Hashable, deque[tuple[Hashable, Any]]] = {}
        _pools.add(self)

    def take(self, address: Hashable, version: Hashable) -> Any | None:
        """An idle connection, which belongs to the caller from now on; None if there is none.

        Args:
            address: where it leads.
            version: what it was made with. Idle connections of another version, such as of
                certificates before their rotation, are closed.
        """
        idle = self._idle.get(address)
        while idle:
            try:
                made_with, connection = idle.pop()
            except IndexError:
                break
            if made_with == version:
                return connection
            connection.close()
        return None

    def keep(self, address: Hashable, version: Hashable, connection: Connection) -> None:
        """Keeps a connection for the next call; closes it if there are enough, or in a fork."""
        idle = self._idle.setdefault(address, deque())
        if _fork.under_way or len(idle) >= _MOST_IDLE:
            connection.close()
        else:
            idle.append((version, connection))

    def close(self) -> None:
        """Closes all idle connections; the next call opens new ones."""
        for idle in list(self._idle.values()):
            while idle:
                try:
                    idle.pop()[1].close()
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
        for pool in _all_pools():
            pool.close()
        _wait_for_threads_to_end()
        # Threads that stayed belong to other users of gRPC: the next fork need not wait again.
        self.used = False

    def _end(self) -> None:
        self.under_way = False


def note_use() -> None:
    """Notes that this process opens a connection."""
    _fork.used = True


def _all_pools() -> list[Connections]:
    while True:
        try:
            return list(_pools)
        except RuntimeError:
            # Another thread makes a client.
            continue


def _wait_for_threads_to_end() -> None:
    """Waits until gRPC's threads have ended, or for a while, if some belong to other users."""
    if not _TASKS.exists():
        time.sleep(_BLIND_WAIT)
        return
    deadline = time.monotonic() + _LONGEST_WAIT
    clean = 0
    while clean < _CLEAN_LISTINGS:
        clean = 0 if _names_of_threads() & _GRPC_THREADS else clean + 1
        if time.monotonic() > deadline:
            return
        time.sleep(_LISTING_PAUSE)


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
