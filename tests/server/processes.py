"""The command `initserver` as a process whose log can be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_WITH_FEW = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Running:
    """A server process. Its log is read all the time, so that it never blocks."""

    def __init__(self, *arguments: str, descriptors: int | None = None, **environment: str) -> None:
        command = [sys.executable, "-m", "initserver", "--backend", "numpy", *arguments]
        if descriptors:
            command = [sys.executable, "-c", _WITH_FEW, str(descriptors), *command]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(iter(self.process.stderr.readline, ""))

    def line(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The first match in the log, waited for."""
        return wait_for(lambda: re.search(pattern, "".join(self.log)), seconds, self.log)

    @property
    def address(self) -> str:
        return self.line(r"listening at ([^\s,]+),")[1]

    @property
    def metrics(self) -> str:
        return self.line(r"metrics at (http://[^\s,\"]+)/metrics")[1]

    def files(self) -> list[str]:
        """The open file descriptors of the process."""
        return os.listdir(f"/proc/{self.process.pid}/fd")

    def end(self, seconds: float = 40) -> int:
        """The exit status, with the whole log read."""
        status = self.process.wait(seconds)
        self._reader.join(5)
        return status

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def running(
    *arguments: str, descriptors: int | None = None, **environment: str
) -> Iterator[Running]:
    """A server process, perhaps with few file descriptors, that is gone afterwards."""
    server = Running("--listen", "127.0.0.1:0", *arguments, descriptors=descriptors, **environment)
    try:
        yield server
    finally:
        server.close()


def wait_for(look: Callable[[], T | None], seconds: float = 20, context: object = "") -> T:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came within {seconds} s: {context}")
