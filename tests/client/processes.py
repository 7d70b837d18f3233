"""Servers as processes, which can be killed and restarted on the same port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import psutil


class Process:
    """A server on a port of its own.

    Attributes:
        address: where it listens, from start to start.
        kills: how often it was killed.
    """

    def __init__(self, *arguments: str, backend: str = "native") -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        self.kills = 0
        self._command = [sys.executable, "-m", "initserver", "--listen", self.address]
        self._command += ["--backend", backend, *arguments]
        self._log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def start(self) -> None:
        """Starts it, without waiting until it answers."""
        self._log.close()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=self._log)

    def wait(self) -> None:
        """Waits until it answers."""
        assert self._process
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            if f"listening at {self.address}," in self.log():
                return
            time.sleep(0.02)
        raise AssertionError(self.log())

    def log(self) -> str:
        """Its output since its start."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def kill(self) -> None:
        """Sends SIGKILL."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._log.close()
        self.kills += 1

    def terminate(self) -> None:
        """Sends SIGTERM, as a rollout does."""
        assert self._process
        self._process.terminate()

    def end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._log.close()


@contextmanager
def running(count: int, *arguments: str, backend: str = "native") -> Iterator[list[Process]]:
    """This many servers, which all answer."""
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
    """The server to which this process is connected."""
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
