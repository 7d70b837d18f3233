"""Servers as processes of their own, which can be killed and started again where they were."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


class Process:
    """A server on a port of its own.

    Attributes:
        address: where it listens, from start to start.
        kills: how often it was killed.
    """

    def __init__(self, *arguments: str, backend: str = "numba") -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        self.kills = 0
        self._command = [sys.executable, "-m", "initserver", "--listen", self.address]
        self._command += ["--backend", backend, *arguments]
        self._process: subprocess.Popen[str] | None = None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def start(self) -> None:
        """Starts it, without waiting until it answers."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def wait(self) -> None:
        """Waits until it answers; reads on, so that it can never block on its log."""
        assert self._process
        assert self._process.stderr
        told = []
        for line in self._process.stderr:
            told.append(line)
            if re.search(rf"listening at {re.escape(self.address)}\b", line):
                threading.Thread(target=_read, args=[self._process], daemon=True).start()
                return
        raise AssertionError("".join(told))

    def kill(self) -> None:
        """What `kill -9` does."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def terminate(self) -> None:
        """What a rollout does first."""
        assert self._process
        self._process.terminate()

    def end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            if self._process.stderr:
                with suppress(ValueError):
                    self._process.stderr.close()


def _read(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    with suppress(ValueError, OSError):
        for _ in process.stderr:
            pass


@contextmanager
def running(count: int, *arguments: str, backend: str = "numba") -> Iterator[list[Process]]:
    """So many servers, which all answer."""
    servers = [Process(*arguments, backend=backend) for _ in range(count)]
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.end()


def serving(servers: list[Process]) -> Process | None:
    """The one that this process has a connection with."""
    connected = {
        connection.raddr.port
        for connection in psutil.Process().net_connections("tcp")
        if connection.raddr and connection.status == psutil.CONN_ESTABLISHED
    }
    return next((server for server in servers if server.port in connected), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
