"""Resources of processes: memory, threads and file descriptors, when it is quiet."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.exhaustive.soaking.ledger import Ledger
from tests.exhaustive.soaking.replicas import Replica

MIB = 1 << 20

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1

# What may be there at the end and was not after the warm-up; more is a leak.
WORKER_MIB = 112
"""A worker that was started just before the first look has empty caches: 64 + 16 MiB, and
buffers of eight streams."""
SUPERVISOR_MIB = 24
"""What malloc keeps for the threads of the HTTP port."""
CLIENT_MIB = 24
"""Pools of Python and gRPC; memory that was freed is given back (`return_freed_memory_at_once`)."""
FILES = 5
"""Of a server: it may have been looked at while a worker was starting, which has five files."""
THREADS = 24
"""Pools of threads start at none and end at their size: 8 streams, plans and chunks."""
DESCRIPTORS = 8
"""Connections that a peer has not closed yet."""


@dataclass(frozen=True)
class Resources:
    """What a process holds.

    Attributes:
        uss: bytes of memory that only this process has.
        threads: how many.
        descriptors: open files and connections.
    """

    uss: int = 0
    threads: int = 0
    descriptors: int = 0

    def __or__(self, other: Resources) -> Resources:
        """The larger of each."""
        return Resources(
            max(self.uss, other.uss),
            max(self.threads, other.threads),
            max(self.descriptors, other.descriptors),
        )

    def __str__(self) -> str:
        return f"{self.uss / MIB:.0f} MiB, {self.threads} threads, {self.descriptors} descriptors"


@dataclass(frozen=True)
class Look:
    """What all processes hold at one moment: of workers, the most that one of them holds."""

    processes: dict[str, Resources]
    files: dict[str, int]


def of_process(process: psutil.Process) -> Resources:
    """What a process holds; nothing, if it has ended."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
        return Resources(process.memory_full_info().uss, process.num_threads(), process.num_fds())
    return Resources()


def look(replicas: Sequence[Replica], folders: dict[str, Path]) -> Look:
    """Looks at all processes and at the files in these folders."""
    found = {"client": of_process(psutil.Process())}
    for one in replicas:
        supervisor, *workers = one.processes()
        found[f"{one.name}: supervisor"] = of_process(supervisor)
        worker = Resources()
        for process in workers:
            worker |= of_process(process)
        found[f"{one.name}: worker"] = worker
    folders = folders | {f"{one.name}: temporary files": one.temporary for one in replicas}
    return Look(found, {name: count_files(folder) for name, folder in folders.items()})


def count_files(folder: Path) -> int:
    """How many files there are in a folder and in those below it."""
    return sum(len(files) for _, _, files in os.walk(folder))


def return_freed_memory_at_once() -> None:
    """Has malloc keep no more than 128 KiB of freed memory at the end of each of its arenas.

    By itself glibc raises this threshold to twice the largest block that was freed, and nothing
    but a later call of free() in that arena gives the memory back. So after ten minutes with
    faulty connections the client had 97 to 133 MiB more, of which nothing was in use: after 2,000
    connections that were cut or damaged, malloc had 8.5 MiB in use, as after 40, and with this
    setting the process stays at 34 MiB.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 128 << 10)


def return_freed_memory() -> None:
    """Gives back to the system the memory that this process has freed, which is no leak."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def quiet_look(replicas: Sequence[Replica], folders: dict[str, Path], seconds: float) -> Look:
    """The least of each in this time: what ends late, such as a connection, is not counted."""
    return_freed_memory()
    end = time.monotonic() + seconds
    least = look(replicas, folders)
    while time.monotonic() < end:
        time.sleep(0.5)
        now = look(replicas, folders)
        least = Look(
            {
                name: replace(
                    one,
                    uss=min(one.uss, least.processes[name].uss),
                    threads=min(one.threads, least.processes[name].threads),
                    descriptors=min(one.descriptors, least.processes[name].descriptors),
                )
                for name, one in now.processes.items()
            },
            {name: min(count, least.files[name]) for name, count in now.files.items()},
        )
    return least


def compare(before: Look, after: Look, ledger: Ledger) -> None:
    """Notes everything that grew by more than its bound."""
    for name, then in before.processes.items():
        now = after.processes[name]
        mebibytes = {"client": CLIENT_MIB}.get(name, SUPERVISOR_MIB)
        if name.endswith("worker"):
            mebibytes = WORKER_MIB
        for what, grown, bound in (
            ("MiB", (now.uss - then.uss) / MIB, mebibytes),
            ("threads", now.threads - then.threads, THREADS),
            ("descriptors", now.descriptors - then.descriptors, DESCRIPTORS),
        ):
            if grown > bound:
                ledger.broke(f"{name} has {grown:.0f} {what} more, {bound} are allowed: {now}")
    for name, count in after.files.items():
        bound = before.files[name] + (0 if "client" in name else FILES)
        if count > bound:
            ledger.broke(f"{name}: {count} files, {bound} are allowed")


class Growth:
    """How the memory of each process of the servers grows while it lives.

    Args:
        replicas: the servers.
        young: seconds of life that do not count: imports, and caches that fill.
    """

    def __init__(self, replicas: Sequence[Replica], young: float) -> None:
        self._replicas, self._young = replicas, young
        self._first: dict[tuple[str, int, float], tuple[float, Resources]] = {}
        self._last: dict[tuple[str, int, float], tuple[float, Resources]] = {}

    def look(self) -> None:
        """Looks at all processes."""
        for one in self._replicas:
            for process in one.processes():
                with suppress(psutil.NoSuchProcess):
                    born = process.create_time()
                    found = of_process(process)
                    if time.time() - born > self._young and found.uss:
                        key = (one.name, process.pid, born)
                        self._first.setdefault(key, (time.monotonic(), found))
                        self._last[key] = (time.monotonic(), found)

    def lines(self, count: int = 4) -> list[str]:
        """The processes that were watched longest, with what they held first and last."""
        watched = sorted(self._last, key=lambda key: self._first[key][0] - self._last[key][0])
        return [
            f"{key[0]}, pid {key[1]}: {self._first[key][1]}; "
            f"{self._last[key][0] - self._first[key][0]:.0f} s later {self._last[key][1]}"
            for key in watched[:count]
        ]
