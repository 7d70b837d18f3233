"""The disk of the world: the calls of `os` on a real folder in memory, with faults between them.

Every call is a step: before it, another task may run, the process may be killed, a file may
vanish. A killed process leaves what its calls have done, and nothing that its code would clean up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.simulation.world import Process, World

# Calls that change a file or a folder, and may find the disk full or broken.
_WRITES = {"write", "pwrite", "ftruncate", "truncate", "fsync", "fdatasync", "mkdir", "link"}
SYNCS = frozenset({"fsync", "fdatasync"})
_READS = {"read", "pread", "fstat", "lstat", "stat", "listdir", "scandir", "rmdir"}
_NAMES = {"replace", "rename", "unlink", "remove"}


class Disk:
    """The modules `os` and `fcntl` of a world.

    Args:
        world: its world.
        folder: a folder of its own; removed by `end`.

    Attributes:
        folder: the folder.
        full: whether no byte more fits.
        broken: the name of a call that fails with EIO; "" for none.
        short: how often a write takes only a part.
        locks: "real", "none" (ENOLCK) or "ignored" (every lock is granted).
        watched: called after each change of a name.
    """

    def __init__(self, world: World, folder: Path) -> None:
        self.folder = folder
        self.full = False
        self.broken = ""
        self.short = 0.0
        self.locks = "real"
        self.watched: Callable[[], None] = lambda: None
        self._world = world
        self._null = os.open(os.devnull, os.O_RDWR)
        # The names of open files, for the trace.
        self._open: dict[int, str] = {}
        # By number of a file: the ranges that a power cut may lose, and what lies below them.
        self._unsynced: dict[int, list[tuple[int, int]]] = {}
        self._synced: dict[int, bytes] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.os = _Os(self)
        self.fcntl = SimpleNamespace(
            **{name: value for name, value in vars(fcntl).items() if name[0] != "_"}
        )
        self.fcntl.flock = self._flock

    def call(self, name: str, real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One system call."""
        world = self._world
        world.step(f"{name} {self._shown(arguments)}" if world.tracing else name)
        if name == self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.full and (name in _WRITES or (name == "open" and self._creates(arguments))):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if name in ("write", "pwrite") and self.short and world.random.random() < self.short:
            data = memoryview(arguments[1])
            if len(data) > 1:
                part = data[: world.random.randrange(1, len(data))]
                arguments = (arguments[0], part, *arguments[2:])
        result = real(*arguments, **named)
        if name in ("write", "pwrite"):
            self._note(arguments, result)
        elif name in SYNCS:
            self._note_synced(arguments[0])
        if name in _NAMES or name == "link":
            self.watched()
        return result

    def open(self, *arguments: Any, **named: Any) -> int:
        """`os.open`."""
        descriptor: int = self.call("open", os.open, *arguments, **named)
        self._world.task.process.descriptors.add(descriptor)
        status = os.fstat(descriptor)
        if not status.st_size:
            # A new file may have the number of one that is gone.
            self._synced.pop(status.st_ino, None)
        self._open[descriptor] = os.path.basename(os.fspath(arguments[0]))
        return descriptor

    def close(self, descriptor: int) -> None:
        """`os.close`."""
        if self._world.unwinding:
            # `close_all` closes what a process left open.
            return
        self._world.step(f"close {self._open.pop(descriptor, '')}")
        self._world.task.process.descriptors.discard(descriptor)
        os.close(descriptor)

    def statvfs(self, path: Any) -> Any:
        """`os.statvfs`."""
        found = self.call("statvfs", os.statvfs, path)
        free = 0 if self.full else found.f_bavail
        return SimpleNamespace(f_frsize=found.f_frsize, f_bavail=free)

    def urandom(self, size: int) -> bytes:
        """`os.urandom`, of the seed."""
        return self._world.random.randbytes(size)

    def release(self, process: Process) -> None:
        """Closes the files of a killed process; their numbers stay taken, as its code has them."""
        for descriptor in process.descriptors:
            with suppress(OSError):
                os.dup2(self._null, descriptor)
        process.descriptors.clear()

    def cut_power(self) -> None:
        """Loses some of the bytes that no fsync has brought to the disk.

        The disk has there what the last fsync brought, or zeros.
        """
        random = self._world.random
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            number = path.stat().st_ino
            ranges, synced = self._unsynced.get(number, ()), self._synced.get(number, b"")
            with open(path, "r+b") as file:
                for begin, size in ranges:
                    if random.random() < 0.5:
                        file.seek(begin)
                        file.write(synced[begin : begin + size].ljust(size, b"\0"))
        self._unsynced.clear()

    def names(self, *parts: str) -> list[Path]:
        """The files whose names have one of these parts, in order."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path for path in found if any(part in path.name for part in parts)]

    def end(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close_all(self) -> None:
        """Closes all files that are still open."""
        for descriptor in [*self._open, self._null]:
            with suppress(OSError):
                os.close(descriptor)
        self._open.clear()

    def _flock(self, descriptor: int, operation: int) -> None:
        self._world.step("flock")
        if self.locks == "none":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        if self.locks == "real":
            fcntl.flock(descriptor, operation)

    def _creates(self, arguments: tuple[Any, ...]) -> bool:
        path, flags = arguments[0], arguments[1]
        return bool(flags & os.O_CREAT) and not os.path.lexists(path)

    def _note(self, arguments: tuple[Any, ...], written: int) -> None:
        status = os.fstat(arguments[0])
        begin = arguments[2] if len(arguments) > 2 else status.st_size - written
        self._unsynced.setdefault(status.st_ino, []).append((begin, written))

    def _note_synced(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._unsynced.pop(status.st_ino, None)
        if stat.S_ISREG(status.st_mode):
            self._synced[status.st_ino] = os.pread(descriptor, status.st_size, 0)

    def _shown(self, arguments: tuple[Any, ...]) -> str:
        folder = f"{self.folder}{os.sep}"
        texts = []
        if arguments and isinstance(arguments[0], int):
            texts.append(self._open.get(arguments[0], ""))
            arguments = arguments[1:]
        for one in arguments:
            sized = isinstance(one, bytes | memoryview)
            texts.append(f"<{len(one)} bytes>" if sized else str(one).replace(folder, ""))
        return ", ".join(texts)


class _Os:
    """The module `os`, with the calls on files as steps."""

    def __init__(self, disk: Disk) -> None:
        self.open, self.close, self.statvfs = disk.open, disk.close, disk.statvfs
        self.urandom = disk.urandom
        for name in _WRITES | _READS | _NAMES:
            setattr(self, name, _call(disk, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def _call(disk: Disk, name: str) -> Callable[..., Any]:
    real = getattr(os, name)

    def call(*arguments: Any, **named: Any) -> Any:
        return disk.call(name, real, *arguments, **named)

    return call
