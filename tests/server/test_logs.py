"""One line a call, for people or for machines, with nothing secret in it."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.observe.logs import JsonFormatter, TextFormatter

from tests.server.certificates import Authority
from tests.server.processes import running, wait_for

FETCH = "initserve.v1.InitService/Fetch"
SMALL = to_proto(Plan({"w": normal((1000,))}))
ENDLESS = to_proto(Plan({"w": normal((1 << 20, 1 << 20))}))
TRACE = "0af7651916cd43dd8448eb211c80319c"

Stub = service_pb2_grpc.InitServiceStub


@pytest.fixture
def stub() -> Iterator[Stub]:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=1)
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


def line(caplog: pytest.LogCaptureFixture, code: str) -> dict[str, Any]:
    """The JSON line of the first call that ended with a code."""

    def look() -> dict[str, Any] | None:
        for record in list(caplog.records):
            if getattr(record, "fields", {}).get("code") == code:
                found: dict[str, Any] = json.loads(JsonFormatter({}).format(record))
                return found
        return None

    return wait_for(look)


def test_a_streams_line_says_what_was_asked_and_sent(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    request = service_pb2.FetchRequest(plan=SMALL, read_offset=100, read_limit=200)
    traceparent = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
    first, *rest = stub.Fetch(request, timeout=10, metadata=[traceparent])
    found = line(caplog, "OK")
    assert sum(len(message.chunk.data) for message in rest) == 200
    assert found.pop("bytes") == first.ByteSize() + sum(m.ByteSize() for m in rest)
    assert found.pop("plan") == first.info.plan_digest[:12]
    assert found.pop("peer").startswith("ipv4:127.0.0.1:")
    assert 0 < found.pop("seconds") < 10
    assert "grpc-python" in found.pop("user_agent")
    assert found.pop("time").endswith("+00:00")
    assert "Fetch, OK" in found.pop("message")
    assert found == {
        "level": "info",
        "method": FETCH,
        "code": "OK",
        "offset": 100,
        "limit": 200,
        "trace_id": TRACE,
    }


def test_a_cancelled_streams_line_says_how_far_it_came(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call = stub.Fetch(service_pb2.FetchRequest(plan=ENDLESS), timeout=60)
    next(call)
    next(call)
    call.cancel()
    found = line(caplog, "CANCELLED")
    assert found["method"] == FETCH
    assert found["bytes"] > 1 << 20
    assert "cancelled" in found["reason"]


def test_a_failed_streams_line_says_why(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Fetch(service_pb2.FetchRequest(plan=SMALL, expected_digest="x"), timeout=10))
    found = line(caplog, "FAILED_PRECONDITION")
    assert found["reason"] == caught.value.details()
    assert found["level"] == "info"


def test_a_fault_of_the_server_is_an_error_with_its_traceback(
    stub: Stub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from initserver.rpc import service

    def broken(*arguments: Any) -> None:
        raise RuntimeError("the cable is loose")

    monkeypatch.setattr(service, "file_info", broken)
    with pytest.raises(grpc.RpcError):
        list(stub.Fetch(service_pb2.FetchRequest(plan=SMALL), timeout=10))
    found = line(caplog, "INTERNAL")
    assert found["level"] == "error"
    assert "the cable is loose" not in found["reason"]
    traced = [json.loads(JsonFormatter({}).format(r)) for r in caplog.records if r.exc_info]
    assert any("the cable is loose" in one["exception"] for one in traced)


def test_every_json_line_is_one_object_with_the_fields_of_its_process() -> None:
    record = logging.makeLogRecord({"msg": "two\nlines", "levelname": "INFO"})
    text = JsonFormatter({"worker": 3}).format(record)
    assert "\n" not in text
    assert json.loads(text)["worker"] == 3


def test_nobody_can_forge_a_line_of_text() -> None:
    record = logging.makeLogRecord({"msg": "name\n12:00:00 all is well\x1b[2J", "levelno": 20})
    text = TextFormatter().format(record)
    assert "\n" not in text
    assert "\x1b" not in text


def test_a_traceback_follows_its_line_of_text() -> None:
    try:
        raise RuntimeError("the cable is loose")
    except RuntimeError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    assert "\nRuntimeError: the cable is loose" in TextFormatter().format(record)


def test_a_process_logs_json_from_start_to_stop_without_a_secret(tmp_path: Path) -> None:
    secret = "a-token-that-nobody-may-see"
    tokens = tmp_path / "tokens"
    tokens.write_text(f"trainer:{secret}\n")
    tokens.chmod(0o600)
    authority = Authority()
    cert, key = authority.sign("server").write(tmp_path, "server")
    arguments = ["--tls-cert", cert, "--tls-key", key, "--token-file", str(tokens)]
    with running(*arguments, "--log-format", "json", "--log-level", "debug") as server:
        address = server.line(r'"address": "([^"]+)"')[1]
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(address, credentials) as channel:
            stub, request = Stub(channel), service_pb2.FetchRequest(plan=SMALL)
            for token in (secret, secret + "x"):
                metadata = [("authorization", f"Bearer {token}")]
                call = stub.Fetch(request, timeout=10, metadata=metadata)
                if token == secret:
                    assert len(list(call)) == 2
                else:
                    with pytest.raises(grpc.RpcError):
                        list(call)
            endless = service_pb2.FetchRequest(plan=ENDLESS)
            call = stub.Fetch(endless, timeout=60, metadata=[("authorization", f"Bearer {secret}")])
            next(call)
            call.cancel()
        server.line("CANCELLED")
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    lines = [json.loads(text) for text in server.log]
    started, *calls, stopped = lines
    assert (started["tls"], started["tokens"], started["workers"]) == (True, True, 1)
    assert "listening at" in started["message"]
    assert stopped["message"] == "initserver: stopped"
    codes = [one["code"] for one in calls if one.get("method") == FETCH]
    assert codes == ["OK", "UNAUTHENTICATED", "CANCELLED"]
    assert [one.get("caller") for one in calls if "code" in one] == ["trainer", None, "trainer"]
    everything = "".join(server.log)
    assert secret not in everything
    assert Path(key).read_text().splitlines()[1] not in everything
