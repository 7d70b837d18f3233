"""Every call is counted with the code that it ended with: streams, cancelled and failed too."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from initcore import Plan, normal, zeros
from initcore.wire.conversion import to_proto
from initserve.v1 import plan_pb2, service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from prometheus_client.parser import text_string_to_metric_families

from tests.server.certificates import Authority
from tests.server.processes import wait_for

FETCH = "initserve.v1.InitService/Fetch"
SMALL = to_proto(Plan({"w": normal((1000,)), "b": zeros((500,))}))
ENDLESS = to_proto(Plan({"w": normal((1 << 20, 1 << 20))}))
WRONG = plan_pb2.Plan(tensors=[plan_pb2.Tensor(name="w", shape=[-1])])
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(address: str) -> Samples:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"initserver_{name}", frozenset(labels.items())), 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    config = ServerConfig(
        listen="127.0.0.1:0", backend="numpy", grace=1, metrics_listen="127.0.0.1:0"
    )
    with Server(config) as server:
        yield server


@pytest.fixture
def stub(server: Server) -> Iterator[service_pb2_grpc.InitServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield service_pb2_grpc.InitServiceStub(channel)


def calls(server: Server, code: str, method: str = FETCH) -> float:
    return value(read(server.metrics_address), "calls_total", method=method, code=code)


def test_a_stream_is_counted_when_it_has_ended(
    server: Server, stub: service_pb2_grpc.InitServiceStub
) -> None:
    sizes = []
    for _ in range(2):
        messages = list(stub.Fetch(service_pb2.FetchRequest(plan=SMALL), timeout=10))
        sizes.append(sum(len(message.chunk.data) for message in messages))
    wait_for(lambda: calls(server, "OK") == 2)
    samples = read(server.metrics_address)
    assert value(samples, "call_seconds_count", method=FETCH) == 2
    assert value(samples, "sent_bytes_total") == sum(sizes)
    assert value(samples, "elements_total", scheme="NORMAL", backend="numpy") == 1000
    assert value(samples, "elements_total", scheme="ZEROS", backend="numpy") == 500
    assert value(samples, "generated_bytes_total", backend="numpy") == sizes[0]
    assert value(samples, "generation_seconds_count", backend="numpy") == 1
    assert value(samples, "cache_hits_total") == 1
    assert value(samples, "cache_bytes") >= sizes[0]
    assert value(samples, "streams_in_flight") == 0
    assert value(samples, "info", version=server_version(stub), stream_version="1", backend="numpy")


def server_version(stub: service_pb2_grpc.InitServiceStub) -> str:
    return str(stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10).version)


def test_a_cancelled_stream_is_counted_and_was_in_flight_before(
    server: Server, stub: service_pb2_grpc.InitServiceStub
) -> None:
    call = stub.Fetch(service_pb2.FetchRequest(plan=ENDLESS), timeout=60)
    next(call)
    next(call)
    assert value(read(server.metrics_address), "streams_in_flight") == 1
    call.cancel()
    wait_for(lambda: calls(server, "CANCELLED") == 1)
    assert calls(server, "OK") == 0
    wait_for(lambda: value(read(server.metrics_address), "streams_in_flight") == 0)
    assert value(read(server.metrics_address), "sent_bytes_total") >= 1 << 20


def test_a_stream_past_its_deadline_is_counted(
    server: Server, stub: service_pb2_grpc.InitServiceStub
) -> None:
    with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
        list(stub.Fetch(service_pb2.FetchRequest(plan=ENDLESS), timeout=0.3))
    wait_for(lambda: calls(server, "DEADLINE_EXCEEDED") + calls(server, "CANCELLED") == 1)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (service_pb2.FetchRequest(plan=WRONG), "INVALID_ARGUMENT"),
        (service_pb2.FetchRequest(plan=SMALL, read_offset=1 << 40), "OUT_OF_RANGE"),
        (service_pb2.FetchRequest(plan=SMALL, expected_digest="x"), "FAILED_PRECONDITION"),
    ],
)
def test_a_failed_stream_is_counted_with_its_code(
    server: Server,
    stub: service_pb2_grpc.InitServiceStub,
    request_: service_pb2.FetchRequest,
    code: str,
) -> None:
    with pytest.raises(grpc.RpcError, match=code):
        list(stub.Fetch(request_, timeout=10))
    wait_for(lambda: calls(server, code) == 1)
    assert calls(server, "OK") == 0


def test_methods_that_do_not_exist_share_one_name(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for name in ("/initserve.v1.InitService/Nothing", "/a/b", "/c/d"):
            with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                channel.unary_unary(name)(b"", timeout=10)
    wait_for(lambda: calls(server, "UNIMPLEMENTED", "unknown") == 3)


def test_a_call_without_its_token_is_counted(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token\n")
    tokens.chmod(0o600)
    config = ServerConfig(
        listen="127.0.0.1:0",
        backend="numpy",
        grace=1,
        token_file=str(tokens),
        metrics_listen="127.0.0.1:0",
    )
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            list(stub.Fetch(service_pb2.FetchRequest(plan=SMALL), timeout=10))
        wait_for(lambda: calls(server, "UNAUTHENTICATED") == 1)


def test_the_end_of_the_certificate_is_shown_and_follows_a_rotation(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.sign("server", ends=1).write(tmp_path, "server")
    config = ServerConfig(
        listen="127.0.0.1:0",
        backend="numpy",
        grace=1,
        tls_cert=cert,
        tls_key=key,
        metrics_listen="127.0.0.1:0",
    )
    name = "certificate_expiry_timestamp_seconds"
    with Server(config) as server:
        first = value(read(server.metrics_address), name)
        authority.sign("server", ends=3).write(tmp_path, "server")
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(server.address, credentials) as channel:
            grpc.channel_ready_future(channel).result(10)
        second = value(read(server.metrics_address), name)
        assert second - first == pytest.approx(2 * 86400, abs=60)


def test_without_tls_no_certificate_is_shown(server: Server) -> None:
    assert "certificate" not in str(read(server.metrics_address))
