"""Calls with a known token are let in, whatever their kind; probes need none."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.rpc.tokens import Tokens

SECRET, OTHER = "s3cret-token-of-a-trainer", "an0ther-token"
PLAN = to_proto(Plan({"w": normal((100,))}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who may call\n\ntrainer:{SECRET}\n{OTHER}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def channel(file: Path) -> Iterator[grpc.Channel]:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=1, token_file=str(file))
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def fetch(channel: grpc.Channel, authorization: str | None) -> int:
    """Messages of a stream."""
    metadata = [("authorization", authorization)] if authorization is not None else []
    stub = service_pb2_grpc.InitServiceStub(channel)
    request = service_pb2.FetchRequest(plan=PLAN)
    return len(list(stub.Fetch(request, timeout=10, metadata=metadata)))


def info(channel: grpc.Channel, authorization: str | None) -> int:
    """Schemes that the server knows, in a single call."""
    metadata = [("authorization", authorization)] if authorization is not None else []
    stub = service_pb2_grpc.InitServiceStub(channel)
    request = service_pb2.GetServerInfoRequest()
    return len(stub.GetServerInfo(request, timeout=10, metadata=metadata).schemes)


def reflect(channel: grpc.Channel, authorization: str | None) -> int:
    """Services that reflection lists."""
    metadata = [("authorization", authorization)] if authorization is not None else []
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = stub.ServerReflectionInfo(iter([request]), timeout=10, metadata=metadata)
    return sum(len(answer.list_services_response.service) for answer in answers)


METHODS = pytest.mark.parametrize("method", [fetch, info, reflect])


@METHODS
@pytest.mark.parametrize("given", [f"Bearer {SECRET}", f"bearer {SECRET}", f"Bearer {OTHER}"])
def test_a_known_token_is_let_in(channel: grpc.Channel, method, given: str) -> None:  # type: ignore[no-untyped-def]
    assert method(channel, given) > 0


@METHODS
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "requires a token"),
        ("", "requires a token"),
        ("Bearer", "requires a token"),
        (f"Basic {SECRET}", "requires a token"),
        ("Bearer wrong", "does not know the call's token"),
        (f"Bearer {SECRET}x", "does not know the call's token"),
        (f"Bearer {SECRET[:-1]}", "does not know the call's token"),
        (f"Bearer trainer:{SECRET}", "does not know the call's token"),
    ],
)
def test_other_calls_are_unauthenticated_and_told_why(  # type: ignore[no-untyped-def]
    channel: grpc.Channel, method, given: str | None, sentence: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, given)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert sentence in caught.value.details()
    assert SECRET[:-1] not in str(caught.value)


def test_probes_need_no_token(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    serving = health_pb2.HealthCheckResponse.SERVING
    assert stub.Check(request, timeout=10).status == serving
    watch = stub.Watch(request, timeout=10)
    assert next(watch).status == serving
    watch.cancel()


def test_tokens_rotate_without_a_restart(channel: grpc.Channel, file: Path) -> None:
    assert info(channel, f"Bearer {SECRET}")
    file.write_text("trainer:fresh-token\n")
    assert info(channel, "Bearer fresh-token")
    with pytest.raises(grpc.RpcError, match="no longer valid"):
        info(channel, f"Bearer {SECRET}")


@pytest.mark.parametrize("content", ["", "# nobody\n", "two words\n", None])
def test_a_broken_rotation_keeps_the_tokens_and_says_so(
    channel: grpc.Channel, file: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert info(channel, f"Bearer {SECRET}")
    assert info(channel, f"Bearer {SECRET}")
    assert caplog.text.count("the last valid one stays") == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "holds no token"), ("a\nmine:b c\n", "line 2 must be"), (None, "No such file")],
)
def test_a_file_that_cannot_be_used_is_named_without_its_contents(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"^token_file is .*{reason}") as caught:
        Tokens(str(path))
    assert "b c" not in str(caught.value)


def test_every_token_is_compared_in_constant_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    tokens = Tokens(str(file))
    monkeypatch.setattr("hmac.compare_digest", compare)
    assert tokens.caller(SECRET.encode()) == "trainer"
    assert tokens.caller(OTHER.encode()) == ""
    assert tokens.caller(b"wrong") is None
    assert compared == [SECRET.encode(), OTHER.encode()] * 3


def test_a_file_that_everybody_can_read_is_a_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.chmod(file, 0o644)
    Tokens(str(file))
    assert f"chmod o-r {file}" in caplog.text


def test_the_log_shows_a_tokens_name_and_never_a_token(
    channel: grpc.Channel, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fetch(channel, f"Bearer {SECRET}")
    with pytest.raises(grpc.RpcError):
        fetch(channel, f"Bearer {SECRET}x")
    file.write_text(f"{SECRET}\nbad line\n")
    fetch(channel, f"Bearer {OTHER}")
    assert "as trainer" in caplog.text
    assert "UNAUTHENTICATED" in caplog.text
    everything = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert SECRET not in everything
    assert OTHER not in everything
