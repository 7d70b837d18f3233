"""Calls are spans in their caller's trace, streams from their first message to their end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from initcore import MissingPackageError, Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.observe.tracing import Tracing, tracing_if_wanted
from initserver.process import server as server_module
from initserver.rpc.calls import Call
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.server.processes import wait_for

SMALL = to_proto(Plan({"w": normal((1000,))}))
ENDLESS = to_proto(Plan({"w": normal((1 << 20, 1 << 20))}))
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Stub = service_pb2_grpc.InitServiceStub


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def stub(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(server_module, "tracing_if_wanted", lambda trace: Tracing(provider))
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=1, trace=True)
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


def span(exporter: InMemorySpanExporter) -> ReadableSpan:
    return wait_for(exporter.get_finished_spans)[0]


def test_a_stream_is_a_span_in_the_callers_trace_and_in_the_log(
    stub: Stub, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
    first, *_ = stub.Fetch(service_pb2.FetchRequest(plan=SMALL), timeout=10, metadata=metadata)
    found = span(exporter)
    assert found.name == "initserve.v1.InitService/Fetch"
    assert found.kind == SpanKind.SERVER
    assert found.parent is not None
    assert f"{found.parent.span_id:016x}" == PARENT
    assert f"{found.context.trace_id:032x}" == TRACE
    attributes = dict(found.attributes or {})
    assert attributes["rpc.grpc.status_code"] == 0
    assert attributes["initserve.plan_digest"] == first.info.plan_digest
    assert attributes["initserve.bytes_sent"] > 4000
    assert TRACE in {getattr(record, "fields", {}).get("trace_id") for record in caplog.records}


def test_a_cancelled_stream_ends_its_span(stub: Stub, exporter: InMemorySpanExporter) -> None:
    call = stub.Fetch(service_pb2.FetchRequest(plan=ENDLESS), timeout=60)
    next(call)
    assert not exporter.get_finished_spans()
    call.cancel()
    assert (span(exporter).attributes or {})["rpc.grpc.status_code"] == 1


def test_a_callers_mistake_is_no_error_of_the_server(
    stub: Stub, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(grpc.RpcError):
        list(stub.Fetch(service_pb2.FetchRequest(plan=SMALL, expected_digest="x"), timeout=10))
    found = span(exporter)
    assert (found.attributes or {})["rpc.grpc.status_code"] == 9
    assert found.status.status_code == StatusCode.UNSET


def test_tracing_is_off_unless_asked_for() -> None:
    assert tracing_if_wanted(False, {}) is None
    disabled = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}
    assert tracing_if_wanted(False, disabled) is None


@pytest.mark.parametrize("module", ["opentelemetry", "opentelemetry.sdk.trace"])
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'initserve\[otel\]'"):
        tracing_if_wanted(True, {})
    # Variables of a whole cluster do not keep a server from starting.
    assert tracing_if_wanted(False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) is None
    assert "pip install" in caplog.text


def test_spans_are_exported_where_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing = tracing_if_wanted(False)
    assert tracing is not None
    tracing.close()


def test_spans_arrive_at_the_collector_that_the_variables_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

    got: list[tuple[str, str]] = []

    class Collector(service.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            for one in request.resource_spans:
                names = {a.key: a.value.string_value for a in one.resource.attributes}
                got.extend(
                    (names["service.name"], s.name) for sc in one.scope_spans for s in sc.spans
                )
            return messages.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    service.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
        tracing = tracing_if_wanted(False)
        assert tracing is not None
        call = Call("initserve.v1.InitService/Fetch")
        tracing.started(call)
        tracing.ended(call)
        tracing.close()
    finally:
        server.stop(0).wait()
    assert got == [("initserver", "initserve.v1.InitService/Fetch")]
