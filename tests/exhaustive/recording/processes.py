"""Processes: one for each subject, forked with the libraries imported, with limits on its use."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def apart(make: Callable[[], Row], *, cpu_seconds: int, seconds: int, gib: float) -> Row:
    """The row that a function makes in a process of its own.

    Args:
        make: makes the row.
        cpu_seconds: processor time that it may take.
        seconds: time that it may take on a busy machine.
        gib: memory beyond what this process has, in GiB.

    Returns:
        The row; or one with "error", for an exception, a limit or a crash.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(make, writing, cpu_seconds, gib)
    os.close(writing)
    written = b""
    is_late = False
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while True:
            left = started + seconds - time.monotonic()
            ready = select.select([pipe], [], [], max(left, 0))[0]
            if not ready:
                is_late = True
                os.kill(child, signal.SIGKILL)
                break
            piece = pipe.read(1 << 16)
            if not piece:
                break
            written += piece
    _, status, used = os.wait4(child, 0)
    row: Row = {"error": _ended(status, is_late, seconds, cpu_seconds)}
    if written.endswith(b"\n"):
        row = json.loads(written)
    row["cpu_seconds"] = round(used.ru_utime + used.ru_stime, 2)
    return row


def _run(make: Callable[[], Row], writing: int, cpu_seconds: int, gib: float) -> None:
    """The child: it writes its row and ends without the parent's handlers."""
    try:
        with open("/proc/self/statm") as file:
            here = int(file.read().split()[0]) * resource.getpagesize()
        most = here + int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            row = make()
        except BaseException as error:
            text = " ".join(str(error).split())
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{'/'.join(place.filename.split('/')[-2:])}:{place.lineno}"
            row = {"error": f"{type(error).__name__}: {text}"[:400], "at": where}
        left = json.dumps(row).encode() + b"\n"
        while left:
            left = left[os.write(writing, left) :]
    finally:
        os._exit(0)


def _ended(status: int, is_late: bool, seconds: int, cpu_seconds: int) -> str:
    if is_late:
        return f"more than {seconds} s"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in (signal.SIGXCPU, signal.SIGKILL):
            return f"more than {cpu_seconds} s of processor time, or killed for memory"
        return f"ended by {signal.Signals(number).name}"
    return f"ended with status {os.WEXITSTATUS(status)} and without a row"
