"""A stream whose next bytes take long says that it is alive, and clients wait for it."""

from __future__ import annotations

import time

import grpc
import initclient as ic
import numpy as np
import pytest
from initcore import VirtualFile
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.rpc import service
from initserver.values import chunks
from numpy.typing import NDArray

PLAN = ic.Plan({"q": ic.orthogonal((1500, 1500)), "b": ic.zeros((4,))}, seed=7)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that is quick to say so."""
    for module in (service, chunks):
        monkeypatch.setattr(module, "SIGN_OF_LIFE_SECONDS", 0.01)
    return Server(ServerConfig(listen="127.0.0.1:0", backend="numpy"))


def test_a_long_wait_is_filled_with_signs_of_life(server: Server) -> None:
    with server, grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        request = service_pb2.FetchRequest(plan=to_proto(PLAN))
        kinds = [message.WhichOneof("payload") for message in stub.Fetch(request)]
    assert "working" in kinds[: kinds.index("chunk")]
    assert kinds.count("info") == 1


def test_a_client_waits_longer_than_its_patience_for_a_server_that_works(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ic.Plan({"w": ic.normal((30, 20))}, seed=7)
    want = ic.fetch(plan, target="local")["w"]
    read_into = VirtualFile.read_into

    def slow(self: VirtualFile, offset: int, out: NDArray[np.uint8]) -> None:
        time.sleep(4)
        read_into(self, offset, out)

    monkeypatch.setattr(VirtualFile, "read_into", slow)
    # Less than the values take, and more than a machine stands still; one attempt.
    patience = ic.Retry(attempts=1, idle_timeout=2)
    with server:
        got = ic.fetch(plan, target=server.address, retry=patience)["w"]
    assert np.array_equal(got, want)
