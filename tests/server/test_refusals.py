"""Wrong requests are answered with what is wrong; the server's own mistakes stay inside."""

from __future__ import annotations

import logging
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from initcore import Plan, PlanError, Tensor, VirtualFile, layout, normal, orthogonal, zeros
from initcore.wire.conversion import to_proto
from initserve.v1 import plan_pb2, service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.config.limits import Limits
from numpy.typing import NDArray

Stub = service_pb2_grpc.InitServiceStub

WRONG = Plan(
    {
        "fine": zeros((3,)),
        "encoder.weight": normal((4, -2), std=-1.0),
        "decoder.weight": Tensor(scheme="zeros", shape=(2,), gain=2.0),
    }
)


def refusal(stub: Stub, plan: plan_pb2.Plan, method: str = "Fetch") -> grpc.RpcError:
    def call() -> None:
        if method == "Fetch":
            list(stub.Fetch(service_pb2.FetchRequest(plan=plan), timeout=30))
        else:
            stub.Describe(service_pb2.DescribeRequest(plan=plan), timeout=30)

    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    status = rpc_status.from_call(error)
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    return [(item.field, item.description) for item in bad_request.field_violations]


@pytest.mark.parametrize("method", ["Fetch", "Describe"])
def test_a_wrong_plan_is_answered_field_by_field(stub: Stub, method: str) -> None:
    error = refusal(stub, to_proto(WRONG), method)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(PlanError) as local:
        layout(WRONG)
    assert violations(error) == [(v.path, str(v)) for v in local.value.violations]
    assert "encoder.weight" in error.details()
    assert "-2" in error.details()


def test_what_only_messages_can_get_wrong_is_answered_too(stub: Stub) -> None:
    message = plan_pb2.Plan(tensors=[{"name": "a"}, {"name": "a", "scheme": 6}])
    error = refusal(stub, message)
    assert [field for field, _ in violations(error)] == ["tensors[0].scheme", "tensors[1].name"]


@pytest.mark.parametrize("name", ["w", "ω" * 1500, "\x00", "💥" * 300])
def test_a_thousand_violations_fit_into_an_answer(stub: Stub, name: str) -> None:
    plan = Plan({f"{name}.{i}": Tensor(scheme="norma", shape=(-1,)) for i in range(500)})
    message = plan_pb2.Plan(
        tensors=[{"name": key, "shape": [-1], "scheme": 5, "std": 1.0} for key in plan]
    )
    error = refusal(stub, message)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "1000 violations" in error.details()
    *shown, (_, last) = violations(error)
    assert 1 <= len(shown) <= 20
    assert f"{1000 - len(shown)} more" in last


def test_matrices_above_the_servers_limit_are_refused() -> None:
    config = ServerConfig(
        listen="127.0.0.1:0", backend="numpy", limits=Limits(max_matrix_elements=100), grace=1
    )
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        plan = Plan({"q": orthogonal((20, 20))})
        assert violations(refusal(stub, to_proto(plan)))[0][0] == "tensors[0].shape"
        info = stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10)
        assert info.limits.max_matrix_elements == 100


@pytest.mark.parametrize("after", [0, 1 << 20])
def test_an_internal_error_is_logged_and_told_without_a_trace(
    stub: Stub, after: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read_into = VirtualFile.read_into

    def broken(file: VirtualFile, offset: int, out: NDArray[np.uint8]) -> None:
        if offset >= after:
            raise RuntimeError("the secret of /etc/passwd")
        read_into(file, offset, out)

    monkeypatch.setattr(VirtualFile, "read_into", broken)
    with caplog.at_level(logging.ERROR):
        error = refusal(stub, to_proto(Plan({"w": normal((1000, 1000))})))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert "Traceback" not in error.details()
    assert "the secret of /etc/passwd" in caplog.text
    reference = error.details().split()[-1]
    assert reference in caplog.text


def test_garbage_on_the_wire_does_no_harm(channel: grpc.Channel, stub: Stub) -> None:
    raw = channel.unary_unary("/initserve.v1.InitService/Describe")
    with pytest.raises(grpc.RpcError):
        raw(b"\xff\xff\xff", timeout=10)
    plan = replace(WRONG, tensors={"fine": zeros((3,))})
    answer = stub.Describe(service_pb2.DescribeRequest(plan=to_proto(plan)), timeout=10)
    assert answer.info.plan_digest == layout(plan).digest


def test_plans_of_many_tensors_pass_in_one_request(stub: Stub) -> None:
    message = plan_pb2.Plan(
        tensors=[{"name": f"{i:06}" + "x" * 250, "scheme": 6} for i in range(20_000)]
    )
    assert message.ByteSize() > 4 << 20
    info = next(stub.Fetch(service_pb2.FetchRequest(plan=message), timeout=60)).info
    assert info.total_size > 20_000 * 256
