"""A server in a process of its own, so that its memory and its work can be measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from initserve.v1 import service_pb2_grpc

_SERVE = """
import sys
from initserver import Server, ServerConfig
from initserver.config.limits import Limits
config = ServerConfig(
    listen="127.0.0.1:0",
    backend={backend!r},
    grace=0,
    checkpoints={checkpoints!r},
    limits=Limits(**{limits!r}),
)
with Server(config) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class MeasuredServer:
    """A running server."""

    address: str
    pid: int

    @property
    def rss(self) -> int:
        """Bytes of resident memory."""
        return self._status("VmRSS")

    @property
    def peak_rss(self) -> int:
        """The peak of the resident memory, in bytes."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) << 10
        raise AssertionError(f"/proc does not say {name}")


@contextmanager
def measured_server(
    backend: str = "native", checkpoints: str | None = None, **limits: int
) -> Iterator[MeasuredServer]:
    """A server with this folder of checkpoints and these limits, ready to answer."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    script = _SERVE.format(backend=backend, checkpoints=checkpoints, limits=limits)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address
            yield MeasuredServer(address, process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def talking(server: MeasuredServer) -> Iterator[service_pb2_grpc.InitServiceStub]:
    """A stub, over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options) as channel:
        yield service_pb2_grpc.InitServiceStub(channel)
