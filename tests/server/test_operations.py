"""Readiness, age of connections, probes over HTTP: what a platform relies on."""

from __future__ import annotations

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from initcore import Plan, normal
from initcore.backends import Backend
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import ListenError, Server, ServerConfig
from initserver.process import server as server_module

LOOPBACK = "127.0.0.1:0"


def health(channel: grpc.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status)


def http(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_server_is_ready_only_when_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = threading.Event()

    def slow(backend: Backend) -> None:
        warm.wait(30)

    monkeypatch.setattr(server_module, "warm_up", slow)
    config = ServerConfig(listen=LOOPBACK, backend="numpy", grace=1, metrics_listen=LOOPBACK)
    server = Server(config)
    starting = threading.Thread(target=server.start)
    starting.start()
    with grpc.insecure_channel(server.address) as channel:
        for service in ("", "initserve.v1.InitService"):
            assert health(channel, service) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert http(server.metrics_address, "/readyz") == (503, "not ready\n")
        for path in ("/livez", "/healthz"):
            assert http(server.metrics_address, path) == (200, "alive\n")
        warm.set()
        starting.join(10)
        for service in ("", "initserve.v1.InitService"):
            assert health(channel, service) == health_pb2.HealthCheckResponse.SERVING
        assert http(server.metrics_address, "/readyz") == (200, "ready\n")
        server.stop(5)
        assert http(server.metrics_address, "/readyz")[0] == 503
    server.close()


def test_probes_are_answered_while_every_thread_of_other_calls_is_held() -> None:
    config = ServerConfig(listen=LOOPBACK, backend="numpy", grace=0)
    held = threading.Event()

    def requests() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        held.wait(30)

    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        calls = [reflect(requests(), timeout=60)]
        # Alone: of many that have not sent their request yet, the server cancels the oldest.
        next(calls[0])
        calls += [reflect(requests(), timeout=60) for _ in range(15)]
        assert health(channel) == health_pb2.HealthCheckResponse.SERVING
        for call in calls:
            call.cancel()
        held.set()


def test_other_paths_are_not_found() -> None:
    config = ServerConfig(listen=LOOPBACK, backend="numpy", grace=1, metrics_listen=LOOPBACK)
    with Server(config) as server:
        assert http(server.metrics_address, "/")[0] == 404


def test_a_metrics_port_in_use_is_a_clear_error(server: Server) -> None:
    config = ServerConfig(listen=LOOPBACK, backend="numpy", metrics_listen=server.address)
    with pytest.raises(ListenError, match=rf"{server.address}: Address already in use"):
        Server(config)


def test_connections_are_renewed_and_running_downloads_outlast_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    config = ServerConfig(listen=LOOPBACK, backend="numpy", grace=1, max_connection_age=0.3)
    plan = to_proto(Plan({"w": normal((4000, 1000))}))
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        call = stub.Fetch(service_pb2.FetchRequest(plan=plan), timeout=60)
        size = next(call).info.total_size
        for message in call:
            size -= len(message.chunk.data)
            time.sleep(0.08)
        assert size == 0
        stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10)
    peers = [record.fields["peer"] for record in caplog.records if hasattr(record, "fields")]
    assert len(peers) == 2
    assert peers[0] != peers[1]


def test_files_are_named_by_flag_or_variable_where_the_command_refuses_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from initserver.cli import main

    assert main(["--backend", "numpy", "--listen", LOOPBACK, "--token-file", "/nowhere"]) == 2
    assert capsys.readouterr().err == (
        "initserver: error: --token-file is '/nowhere'; it cannot be read: "
        "No such file or directory\n"
    )
    monkeypatch.setenv("INITSERVE_TOKEN_FILE", "/elsewhere")
    assert main(["--backend", "numpy", "--listen", LOOPBACK]) == 2
    assert "INITSERVE_TOKEN_FILE is '/elsewhere'" in capsys.readouterr().err
