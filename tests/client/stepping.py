"""Fetches that stop before every system call, so that a test decides which one goes next."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from initclient._compute import ranges
from initclient._files import atomic, folder, journal, outputs, partial, partial_file, sinks

# Small enough for many examples, and large enough that a hole has no block on the disk.
BLOCK = 8192

# Closing is none, so that a killed fetch releases its locks.
_CALLS = {"open", "stat", "fstat", "unlink", "replace", "pwrite", "write", "pread"}
_CALLS |= {"ftruncate", "fsync", "mkdir", "rmdir"}


class Killed(BaseException):
    """The process ended: nothing that it does from now on has an effect."""


class Fetch(threading.Thread):
    """A fetch in a thread, which makes one system call at a time when the test says so.

    Args:
        plan: the plan.
        path: the file to write.
        options: further arguments of `fetch_file`.

    Attributes:
        error: the error that it ended with, if any.
        calls: the number of system calls.
        next: the system call that it makes next.
        full: whether its next write finds the disk full.
        quiet: system calls since the test last changed a file.
    """

    def __init__(self, plan: ic.Plan, path: Path, **options: Any) -> None:
        super().__init__(daemon=True)
        self.plan, self.path, self.options = plan, path, options
        self.error: BaseException | None = None
        self.calls = self.quiet = 0
        self.next = ""
        self.full = self.killed = self.over = False
        self._go, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        assert self._parked.acquire(timeout=60)

    def run(self) -> None:
        """Fetches."""
        try:
            self.park("begin")
            ic.fetch_file(self.plan, self.path, target="local", backend="numpy", **self.options)
        except BaseException as error:
            self.error = error
        self.over = True
        self._parked.release()

    def park(self, name: str) -> None:
        """Waits for its turn before a system call."""
        if self.killed:
            raise Killed
        self.next = name
        self._parked.release()
        assert self._go.acquire(timeout=60)
        if self.killed:
            raise Killed
        self.calls += 1
        self.quiet += 1
        if self.full and name in ("pwrite", "write"):
            self.full = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def advance(self) -> None:
        """Lets it make one system call."""
        self._go.release()
        assert self._parked.acquire(timeout=60)

    def kill(self) -> None:
        """Ends it as `kill -9` does: locks are released, and nothing is cleaned up."""
        self.killed = True
        self.advance()


class _Os:
    """The module `os`, whose calls wait for their turn in the thread of a fetch."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return _stepped(name, found) if name in _CALLS else found


class _Fcntl:
    """The module `fcntl` of a file system with locks, without, or with locks that do nothing."""

    def __init__(self, locks: str) -> None:
        self._locks = locks

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, descriptor: int, operation: int) -> None:
        """Locks, does nothing, or fails."""
        if self._locks == "none":
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if self._locks == "real":
            _stepped("flock", fcntl.flock)(descriptor, operation)


def _stepped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        thread = threading.current_thread()
        if isinstance(thread, Fetch):
            thread.park(name)
        return function(*arguments, **options)

    return call


@contextmanager
def stepping(locks: str) -> Iterator[None]:
    """System calls of fetches wait for their turn; blocks are small.

    Args:
        locks: "real", "none" (flock fails), or "idle" (flock succeeds and does nothing).
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (atomic, folder, journal, partial, partial_file, sinks):
            patch.setattr(module, "os", _Os())
        patch.setattr(journal, "fcntl", _Fcntl(locks))
        for module in (outputs, journal, partial, ranges):
            patch.setattr(module, "BLOCK", BLOCK)
        patch.setattr(ranges, "available_cpus", lambda: 1)
        yield
