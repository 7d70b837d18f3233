"""Each error of a server or the network names the server and the remedy."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import initclient as ic
import pytest
from initclient._source import Request, service_at
from initclient._transport.status import translate
from initcore import layout
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
ONCE = ic.Retry(attempts=1)


def aborting(code: grpc.StatusCode, text: str) -> Changed:
    def abort(messages: list[Response], context: grpc.ServicerContext) -> Any:
        context.abort(code, text)

    return Changed(abort)


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ic.UnavailableError, match=rf"Is initserver running at {target}\?"):
            ic.fetch(PLAN, target=target, retry=ONCE)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ic.UnavailableError, match=r"nobody\.invalid:1"):
        ic.fetch(PLAN, target="nobody.invalid:1", retry=ONCE)


def test_a_timeout() -> None:
    def stall(messages: list[Response], context: grpc.ServicerContext) -> Any:
        yield from messages[:2]
        while context.is_active():
            time.sleep(0.05)

    with (
        serving(Changed(stall)) as target,
        pytest.raises(ic.DeadlineError, match="after 1000 of") as caught,
    ):
        ic.fetch(PLAN, target=target, timeout=0.5)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("call", [ic.fetch, ic.describe])
def test_another_service_at_the_address(call: Callable[..., Any]) -> None:
    with (
        serving(service_pb2_grpc.InitServiceServicer()) as target,
        pytest.raises(ic.ServerError, match="not an initserver") as caught,
    ):
        call(PLAN, target=target)
    assert caught.value.code == "UNIMPLEMENTED"


def test_a_server_of_another_version() -> None:
    with (
        serving(aborting(grpc.StatusCode.FAILED_PRECONDITION, "another digest")) as target,
        pytest.raises(ic.IntegrityError, match=r"another digest.*same version"),
    ):
        ic.fetch(PLAN, target=target)


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "INTERNAL", "INVALID_ARGUMENT"])
def test_other_answers_keep_their_code_and_text(code: str) -> None:
    with (
        serving(aborting(grpc.StatusCode[code], "the server's words")) as target,
        pytest.raises(ic.ServerError, match=f"{target} answered {code}: the server's words") as it,
    ):
        ic.fetch(PLAN, target=target, retry=ONCE)
    assert it.value.code == code


def test_the_servers_violations_are_those_found_here(target: str) -> None:
    wrong = ic.Plan(
        {
            "fine": ic.zeros((3,)),
            "a: b": ic.normal((4, -2), std=-1.0),
            "tensors[7].shape": ic.Tensor(scheme="zeros", shape=(2,), gain=2.0),
        },
        seed=3,
    )
    with pytest.raises(ic.PlanError) as local:
        layout(wrong)
    with grpc.insecure_channel(target) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        request = service_pb2.DescribeRequest(plan=to_proto(wrong))
        with pytest.raises(grpc.RpcError) as remote:
            stub.Describe(request, timeout=10)
    # As if this client had found the plan right.
    asked = Request(replace(layout(ic.Plan({})), plan=wrong), service_at(target))
    error = translate(remote.value, target, asked).error
    assert isinstance(error, ic.PlanError)
    assert error.violations == local.value.violations
    assert str(error) == str(local.value)
    assert len(error.violations) > 1
