"""A server that is told to stop loses no call that was there before."""

from __future__ import annotations

import signal
import socket
import threading
import time
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

from tests.server.processes import running, wait_for
from tests.server.rude import RudeConnection

LOCAL = [("grpc.use_local_subchannel_pool", 1)]
LARGE = to_proto(Plan({"w": normal((6000, 1000))}))
SMALL = to_proto(Plan({"w": normal((100,))}))


@dataclass
class Result:
    began: float
    size: int = 0
    expected: int = -1
    error: str = ""


def download(address: str, pause: float, results: list[Result]) -> None:
    """One slow download on a connection of its own."""
    with grpc.insecure_channel(address, LOCAL) as channel:
        result = Result(time.monotonic())
        results.append(result)
        call = service_pb2_grpc.InitServiceStub(channel).Fetch(
            service_pb2.FetchRequest(plan=LARGE), timeout=60
        )
        try:
            result.expected = next(call).info.total_size
            for message in call:
                result.size += len(message.chunk.data)
                time.sleep(pause)
        except grpc.RpcError as error:
            result.error = str(error)


def keep_asking(address: str, stop: threading.Event, results: list[Result]) -> None:
    """Short streams and single calls, one after another, until they fail or may end."""
    with grpc.insecure_channel(address, LOCAL) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        requests = [
            lambda: stub.Describe(service_pb2.DescribeRequest(plan=SMALL), timeout=10),
            lambda: list(stub.Fetch(service_pb2.FetchRequest(plan=SMALL), timeout=10)),
        ]
        while not stop.is_set():
            for request in requests:
                result = Result(time.monotonic())
                results.append(result)
                try:
                    request()
                except grpc.RpcError as error:
                    result.error = f"{error.code()}: {error.details()}"
                    return


def test_sigterm_under_load_fails_no_call_that_started_before_it() -> None:
    with running("--workers", "1") as server:
        address = server.address
        downloads: list[Result] = []
        calls: list[Result] = []
        stop = threading.Event()
        threads = [
            threading.Thread(target=download, args=(address, 0.1, downloads)) for _ in range(6)
        ] + [threading.Thread(target=keep_asking, args=(address, stop, calls)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(downloads) == 6 and all(d.size for d in downloads) and len(calls) > 40)

        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)

        wait_for(lambda: sum(bool(call.error) for call in calls) == 4, 20, calls)
        assert any(d.size < d.expected for d in downloads), "the downloads were still running"
        with grpc.insecure_channel(address, LOCAL) as channel:
            late = Result(time.monotonic())
            try:
                service_pb2_grpc.InitServiceStub(channel).GetServerInfo(
                    service_pb2.GetServerInfoRequest(), timeout=5
                )
            except grpc.RpcError as error:
                late.error = str(error.code())
            assert "UNAVAILABLE" in late.error
        stop.set()
        for thread in threads:
            thread.join(60)
        assert [d.error for d in downloads] == [""] * 6
        assert all(d.size == d.expected for d in downloads)
        failed = [call for call in calls if call.error]
        assert [call for call in failed if call.began < signalled] == []
        # Those that came later know what to do: go elsewhere.
        assert all("StatusCode.UNAVAILABLE" in call.error for call in failed), failed
        assert server.end() == 0
        assert time.monotonic() - signalled < 30


def test_a_client_that_watches_health_does_not_keep_a_server_from_ending() -> None:
    with running() as server, grpc.insecure_channel(server.address, LOCAL) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.end() == 0
        assert time.monotonic() - begin < 10
        watch.cancel()


def test_the_second_signal_ends_a_draining_server_at_once() -> None:
    with running("--grace", "60") as server:
        results: list[Result] = []
        thread = threading.Thread(target=download, args=(server.address, 1.0, results))
        thread.start()
        wait_for(lambda: results and results[0].size)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.end(10) == 128 + signal.SIGINT
        thread.join(20)
        assert results[0].error


def test_a_collector_that_cannot_be_reached_takes_no_longer_than_the_grace() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(
            "--grace",
            "1",
            # It accepts connections and never answers.
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
        ) as server,
    ):
        with grpc.insecure_channel(server.address, LOCAL) as channel:
            stub = service_pb2_grpc.InitServiceStub(channel)
            stub.Describe(service_pb2.DescribeRequest(plan=SMALL), timeout=30)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        # Without a bound the export tries for ten seconds.
        assert time.monotonic() - begin < 6


def test_downloads_and_the_export_of_spans_end_together_within_the_grace() -> None:
    """Also with workers, and with readers that never read."""
    endless = service_pb2.FetchRequest(plan=to_proto(Plan({"w": normal((1 << 20, 1 << 20))})))
    for workers in ("1", "2"):
        with (
            running(
                "--grace",
                "3",
                "--workers",
                workers,
                OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
            ) as server,
            RudeConnection(server.address) as rude,
        ):
            rude.call("initserve.v1.InitService/Fetch", endless.SerializeToString())
            rude.socket.recv(100)
            time.sleep(1)
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.end() == 0
            assert 2 < time.monotonic() - begin < 5.5
