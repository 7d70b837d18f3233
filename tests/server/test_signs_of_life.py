"""A stream whose next bytes take long says that it is alive, and clients wait for it."""

from __future__ import annotations

import grpc
import initclient as ic
import numpy as np
import pytest
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.rpc import service
from initserver.values import chunks

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


def test_a_client_waits_longer_than_its_patience_for_a_server_that_works(server: Server) -> None:
    want = ic.fetch(PLAN, target="local", backend="numpy")["q"]
    # Less than the matrix takes, and one attempt.
    patience = ic.Retry(attempts=1, idle_timeout=0.1)
    with server:
        got = ic.fetch(PLAN, target=server.address, retry=patience)["q"]
    assert np.array_equal(got, want)
