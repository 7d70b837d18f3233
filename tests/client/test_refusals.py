"""Refusals of a server: limits, busy answers, and the time of the next call."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

import grpc
import initclient as ic
import numpy as np
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from initserver import Limits, Server, ServerConfig

from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
SOON = ic.Retry(base_delay=0.001, max_delay=0.01)


def busy(seconds: float, trailer: str | None = None) -> Any:
    """Refuses a call as a busy server does."""

    def refuse(messages: list[Response], context: grpc.ServicerContext) -> None:
        if trailer is not None:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", trailer),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="no room")
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(reason="MAX_STREAMS", domain="initserve")
        )
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(seconds * 1e9))
        status.details.add().Pack(retry)
        context.abort_with_status(rpc_status.to_status(status))

    return refuse


@pytest.mark.parametrize("trailer", [None, "300"])
def test_a_busy_server_is_asked_again_when_it_says(trailer: str | None) -> None:
    server = Changed(busy(0.3, trailer), times=4)
    retry = ic.Retry(attempts=2, base_delay=0.01, max_delay=0.05)
    with serving(server) as target:
        weights = ic.fetch(PLAN, target=target, retry=retry)
    np.testing.assert_array_equal(weights["w"], ic.fetch(PLAN)["w"])
    times = [when for when, _ in server.requests]
    assert len(times) == 5
    pauses = [two - one for one, two in pairwise(times)]
    assert min(pauses) > 0.29
    # One of them, since a machine may stand still in the others.
    assert min(pauses) < 1


def test_a_server_that_wants_no_second_call_gets_none() -> None:
    server = Changed(busy(0, "-1"))
    with serving(server) as target, pytest.raises(ic.BusyError, match="no room"):
        ic.fetch(PLAN, target=target)
    assert len(server.requests) == 1


def test_patience_ends() -> None:
    server = Changed(busy(0.4))
    with serving(server) as target, pytest.raises(ic.BusyError, match="gave up after") as caught:
        ic.fetch(PLAN, target=target, retry=ic.Retry(patience=2, max_delay=0.01))
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "MAX_STREAMS")
    assert 3 <= len(server.requests) <= 7


def test_pushback_longer_than_the_deadline_is_not_waited_for() -> None:
    start = time.monotonic()
    with (
        serving(Changed(busy(60))) as target,
        pytest.raises(ic.DeadlineError, match="no room"),
    ):
        ic.fetch(PLAN, target=target, timeout=20)
    assert time.monotonic() - start < 10


def test_more_clients_than_the_server_has_room_for_are_all_served() -> None:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", limits=Limits(max_streams=2))
    plan = ic.Plan({"w": ic.normal((3000, 1000))}, seed=4)
    expected = ic.fetch(plan)["w"]
    found: list[Any] = []
    with Server(config) as server:

        def work() -> None:
            found.append(ic.fetch(plan, target=server.address, timeout=60)["w"])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8
    assert all(np.array_equal(one, expected) for one in found)


def test_a_limit_is_named_and_not_tried_again() -> None:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", limits=Limits(max_tensors=3))
    plan = ic.Plan({f"w{n}": ic.zeros((1,)) for n in range(5)})
    with Server(config) as server:
        for call in (ic.fetch, ic.describe):
            with pytest.raises(ic.LimitError) as caught:
                call(plan, target=[server.address, "127.0.0.1:1"], retry=SOON)
    assert caught.value.reason == "MAX_TENSORS"
    assert caught.value.limit == 3


@pytest.mark.parametrize(
    ("code", "kind", "calls"),
    [
        ("UNAUTHENTICATED", ic.AuthenticationError, 1),
        ("PERMISSION_DENIED", ic.AuthenticationError, 1),
        ("UNIMPLEMENTED", ic.ServerError, 1),
        ("RESOURCE_EXHAUSTED", ic.LimitError, 1),
        ("OUT_OF_RANGE", ic.ServerError, 1),
        ("FAILED_PRECONDITION", ic.IntegrityError, 2),
        ("UNAVAILABLE", ic.UnavailableError, 3),
        ("CANCELLED", ic.TransportError, 3),
        ("INTERNAL", ic.ServerError, 3),
        ("UNKNOWN", ic.ServerError, 3),
    ],
)
def test_who_is_asked_again(code: str, kind: type[ic.InitserveError], calls: int) -> None:
    def refuse(messages: list[Response], context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode[code], "words")

    server = Changed(refuse)
    with serving(server) as target, pytest.raises(kind, match="words") as caught:
        ic.fetch(PLAN, target=target, retry=ic.Retry(attempts=3, base_delay=0.001))
    assert type(caught.value) is kind
    assert len(server.requests) == calls
