"""A real server on loopback, and a stub that talks to it, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from initserve.v1 import service_pb2_grpc
from initserver import Server, ServerConfig


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5)) as server:
        yield server


@pytest.fixture(scope="session")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> service_pb2_grpc.InitServiceStub:
    return service_pb2_grpc.InitServiceStub(channel)
