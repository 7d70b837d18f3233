"""A server answers health checks and reflection, describes itself and stops gracefully."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import initcore
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from initcore import MissingPackageError, Plan, normal
from initcore.dtypes import DTYPES
from initcore.plan.schemes import SCHEMES
from initcore.wire.conversion import to_proto
from initserve.v1 import plan_pb2, service_pb2, service_pb2_grpc
from initserver import ListenError, Server, ServerConfig
from initserver.config.server_config import split_address
from initserver.process import server as server_module

Stub = service_pb2_grpc.InitServiceStub
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LOOPBACK = "127.0.0.1:0"


def health(channel: grpc.Channel, service: str = "") -> int:
    check = health_pb2_grpc.HealthStub(channel).Check
    return int(check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)


def endless() -> service_pb2.FetchRequest:
    return service_pb2.FetchRequest(plan=to_proto(Plan({"w": normal((1 << 20, 1 << 20))})))


@pytest.mark.parametrize("service", ["", "initserve.v1.InitService"])
def test_health_says_serving(channel: grpc.Channel, service: str) -> None:
    assert health(channel, service) == SERVING


def test_reflection_lists_the_service_and_its_methods(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "initserve.v1.InitService" in database.get_services()
    file = database.FindFileContainingSymbol("initserve.v1.InitService")
    assert [method.name for method in file.service[0].method] == [
        "Fetch",
        "Describe",
        "GetServerInfo",
        "ListModels",
        "GetModel",
    ]


def test_every_method_of_the_contract_is_served(channel: grpc.Channel) -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["InitService"]
    for method in service.methods:
        call = channel.unary_stream(f"/{service.full_name}/{method.name}")(b"", timeout=10)
        if method.name == "GetModel":
            # The empty name is one that no server has.
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        else:
            assert list(call), method.name


def test_a_server_says_what_it_is(stub: Stub) -> None:
    info = stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10)
    assert (info.version, info.stream_version) == (initcore.__version__, initcore.STREAM_VERSION)
    assert info.backend == "numpy"
    assert info.limits.chunk_bytes == 1 << 20
    assert {plan_pb2.Scheme.Name(n).lower() for n in info.schemes} == set(SCHEMES)
    assert {plan_pb2.DType.Name(n) for n in info.dtypes} == set(DTYPES)


def test_health_answers_while_every_download_thread_is_busy() -> None:
    config = ServerConfig(listen=LOOPBACK, backend="numpy", threads=1, grace=0)
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        calls = [Stub(channel).Fetch(endless(), timeout=60)]
        next(calls[0])
        calls += [Stub(channel).Fetch(endless(), timeout=60) for _ in range(8)]
        for _ in range(3):
            assert health(channel) == SERVING
        for call in calls:
            call.cancel()


def test_stopping_tells_health_and_lets_a_running_download_finish() -> None:
    server = Server(ServerConfig(listen=LOOPBACK, backend="numpy", grace=30))
    server.start()
    plan = Plan({"w": normal((3000, 1000))})
    request = service_pb2.FetchRequest(plan=to_proto(plan))
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        assert next(watch).status == SERVING
        call = Stub(channel).Fetch(request, timeout=60)
        size = next(call).info.total_size
        closing = threading.Thread(target=server.close)
        closing.start()
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        assert sum(len(message.chunk.data) for message in call) == size
        closing.join(20)
        assert not closing.is_alive()


def test_a_download_that_outlasts_the_grace_is_cut_off() -> None:
    server = Server(ServerConfig(listen=LOOPBACK, backend="numpy", grace=0.2))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        call = Stub(channel).Fetch(endless(), timeout=60)
        next(call)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 10
        with pytest.raises(grpc.RpcError):
            list(call)


def test_a_port_in_use_is_a_clear_error(server: Server) -> None:
    with pytest.raises(ListenError, match=rf"{server.address}: Address already in use"):
        Server(ServerConfig(listen=server.address, backend="numpy"))


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "grpc_health.v1", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'initserve\[server\]'"):
        Server(ServerConfig(listen=LOOPBACK, backend="numpy"))


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("[::]:0", ("::", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses_are_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", "host", ":50051", "host:", "host:x", "h:65536", "::1:5"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        ServerConfig(listen=address)


@pytest.mark.parametrize("values", [{"threads": 0}, {"grace": -1}, {"grace": float("nan")}])
def test_numbers_out_of_range_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ServerConfig(**values)


def test_as_many_chunks_are_made_at_once_as_the_server_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    real = server_module.InitService

    def noted(*arguments: Any) -> Any:
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(server_module, "InitService", noted)
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", threads=1, grace=0)
    Server(config).close(0)
    assert made[0][3] == 1
