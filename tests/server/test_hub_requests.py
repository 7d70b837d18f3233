"""Requests to the Hub endpoint, one by one: headers, ranges, conditions, errors, who is let in."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import initclient as ic
import pytest
from initcore import Plan, normal, orthogonal
from initserver import Limits, Server, ServerConfig
from initserver.hub.answers import HubError
from initserver.hub.requests import byte_range, has_etag, parse_target

from tests.server.certificates import Authority
from tests.server.hub import ask, llama, put, serving
from tests.server.processes import running, wait_for

LARGE = Plan({"w": normal((3000, 1024)), "b": normal((7,))}, seed=5)
WEIGHTS = "/large/resolve/main/model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    put(models / "acme" / "small", llama(), tokenizer_json="x" * 3_000_000, empty_txt="")
    put(models / "acme" / "sharded", llama(), "shard_size: 10KB\n")
    put(models / "large", LARGE)
    return models


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models) as server:
        yield server


@pytest.fixture(scope="module")
def whole(server: Server) -> bytes:
    return ask(server, WEIGHTS).body


def test_the_whole_file_has_the_bits_of_fetch(whole: bytes) -> None:
    begin = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:begin])
    assert header["__metadata__"]["format"] == "pt"
    assert header["__metadata__"]["initserve.plan_digest"] == LARGE.digest
    for name, value in ic.fetch(LARGE).items():
        first, last = header[name]["data_offsets"]
        assert whole[begin + first : begin + last] == value.tobytes()


def test_head_has_the_headers_that_clients_need(server: Server, whole: bytes) -> None:
    head, get = ask(server, WEIGHTS, "HEAD"), ask(server, WEIGHTS)
    assert (head.status, head.body) == (200, b"")
    for name in ("ETag", "X-Repo-Commit", "Content-Length", "X-Linked-Size", "Accept-Ranges"):
        assert head.headers[name] == get.headers[name]
    assert int(head.headers["Content-Length"]) == len(whole) == int(head.headers["X-Linked-Size"])
    assert re.fullmatch(r'"[0-9a-f]{40}"', head.headers["ETag"])
    assert re.fullmatch("[0-9a-f]{40}", head.headers["X-Repo-Commit"])


@pytest.mark.parametrize(
    "span",
    ["0-0", "0-7", "5-300", "300-", "-5", "1048000-1049000", "1048576-3145727", "-99999999999999"],
)
def test_a_range_is_that_part_of_the_file(server: Server, whole: bytes, span: str) -> None:
    first, _, last = span.partition("-")
    begin = int(first) if first else max(0, len(whole) - int(last))
    end = len(whole) if not (first and last) else int(last) + 1
    reply = ask(server, WEIGHTS, Range=f"bytes={span}")
    assert (reply.status, reply.body) == (206, whole[begin:end])
    assert reply.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(whole)}"
    assert reply.headers["ETag"] == ask(server, WEIGHTS, "HEAD").headers["ETag"]


def test_files_of_the_folder_have_ranges_too(server: Server) -> None:
    path = "/acme/small/resolve/main/tokenizer.json"
    assert ask(server, path).body == b"x" * 3_000_000
    part = ask(server, path, Range="bytes=1048570-2097160")
    assert (part.status, len(part.body)) == (206, 2097160 - 1048570 + 1)
    empty = ask(server, "/acme/small/resolve/main/empty.txt")
    assert (empty.status, empty.body) == (200, b"")
    index = ask(server, "/acme/sharded/resolve/main/model.safetensors.index.json")
    shards = set(index.json()["weight_map"].values())
    assert len(shards) > 3
    assert ask(server, f"/acme/sharded/resolve/main/{min(shards)}", "HEAD").status == 200


@pytest.mark.parametrize(
    "span",
    [
        "bytes=5-2",
        "bytes=99999999999-",
        "bytes=-0",
        "bytes=-",
        "bytes=0-5,3-9",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "bytes=0-" + "9" * 500,
        "bytes=x-y",
        "bytes 0-5",
        "bytes=\u0660-\u0661".encode().decode("latin-1"),
    ],
)
def test_a_range_that_cannot_be_served_is_refused(server: Server, span: str) -> None:
    reply = ask(server, WEIGHTS, Range=span)
    assert reply.status == 416
    assert reply.headers["Content-Range"].startswith("bytes */")
    assert len(reply.body) < 1000


def test_a_range_of_another_unit_is_ignored(server: Server, whole: bytes) -> None:
    assert ask(server, WEIGHTS, Range="items=0-5").status == 200
    assert byte_range(None, 10) is None
    with pytest.raises(HubError):
        byte_range("bytes=0-0", 0)


def test_conditions(server: Server) -> None:
    etag = ask(server, WEIGHTS, "HEAD").headers["ETag"]
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        reply = ask(server, WEIGHTS, If_None_Match=tags)
        assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", etag)
    assert ask(server, WEIGHTS, "HEAD", If_None_Match='"other"').status == 200
    assert ask(server, WEIGHTS, "HEAD", If_Match='"other"').status == 412
    assert ask(server, WEIGHTS, "HEAD", If_Match=f'"other", {etag}').status == 200
    assert ask(server, WEIGHTS, "HEAD", If_Match="*").status == 200
    # Weak tags say nothing of bytes (RFC 9110, 13.1.1 and 13.1.5).
    assert ask(server, WEIGHTS, "HEAD", If_Match=f"W/{etag}").status == 412
    assert ask(server, WEIGHTS, Range="bytes=0-1", If_Range=f"W/{etag}").status == 200
    assert ask(server, WEIGHTS, Range="bytes=0-1", If_Range=etag).status == 206
    assert ask(server, WEIGHTS, Range="bytes=0-1", If_Range='"other"').status == 200
    assert not has_etag(None, "a")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/none/resolve/main/config.json", 404, "RepoNotFound"),
        ("/api/models/none", 404, "RepoNotFound"),
        ("/api/models/acme/none/tree/main", 404, "RepoNotFound"),
        ("/large/resolve/v2/config.json", 404, "RevisionNotFound"),
        ("/large/resolve/seed-1/config.json", 404, "RevisionNotFound"),
        ("/large/resolve/" + "0" * 40 + "/config.json", 404, "RevisionNotFound"),
        ("/large/resolve/refs%2Fpr%2F1/config.json", 404, "RevisionNotFound"),
        ("/api/models/large/revision/v2", 404, "RevisionNotFound"),
        ("/large/resolve/main/none.json", 404, "EntryNotFound"),
        ("/large/resolve/main/../../../../etc/passwd", 404, "EntryNotFound"),
        ("/large/resolve/main/..%2F..%2Fetc%2Fpasswd", 404, "EntryNotFound"),
        ("/large/resolve/main/%00", 404, "EntryNotFound"),
        ("/api/models/large/tree/main/sub", 404, "EntryNotFound"),
        ("/..%2f..%2fetc/resolve/main/passwd", 404, "RepoNotFound"),
        ("/datasets/a/b/resolve/main/x", 404, None),
        ("/api/whoami-v2", 404, None),
    ],
)
def test_what_is_not_there_has_the_code_of_the_hub(
    server: Server, path: str, status: int, code: str | None
) -> None:
    for method in ("GET", "HEAD"):
        reply = ask(server, path, method)
        assert (reply.status, reply.code) == (status, code)
    assert "error" in ask(server, path).json()


def test_other_methods_are_refused(server: Server) -> None:
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert ask(server, WEIGHTS, method, body=b"x").status == 405
    assert ask(server, "/api/models/large/paths-info/main").status == 405


def test_paths_are_read_as_the_hub_writes_them() -> None:
    found = parse_target("/acme/a/resolve/refs%2Fpr%2F1/sub/x%20y?download=true")
    assert (found.model, found.revision, found.path) == ("acme/a", "refs/pr/1", "sub/x y")
    assert parse_target("http://host:1/a/resolve/main/f").model == "a"
    assert parse_target("/api/models/a/tree/main/?recursive=true").path == ""
    assert parse_target("/acme/a").kind == "page"


def test_paths_info_takes_json_and_forms(server: Server) -> None:
    path = "/api/models/large/paths-info/main"
    sent = json.dumps({"paths": ["config.json", "none"]}).encode()
    found = ask(server, path, "POST", body=sent, Content_Type="application/json").json()
    assert [one["path"] for one in found] == ["config.json"]
    form = b"paths=config.json&paths=plan.yaml&expand=False"
    kind = "application/x-www-form-urlencoded"
    found = ask(server, path, "POST", body=form, Content_Type=kind).json()
    assert [one["path"] for one in found] == ["config.json", "plan.yaml"]
    for body in (b"{", b"[" * 100_000, b'{"paths": 1}', b"\xff"):
        reply = ask(server, path, "POST", body=body, Content_Type="application/json")
        assert reply.status == 400
    assert ask(server, path, "POST", body=b"x" * (2 << 20)).status == 413


def test_a_compressed_body_is_not_unpacked(server: Server) -> None:
    """A megabyte of it would be a gigabyte of memory."""
    sent = gzip.compress(json.dumps({"paths": ["config.json"]}).encode())
    reply = ask(
        server,
        "/api/models/large/paths-info/main",
        "POST",
        body=sent,
        Content_Type="application/json",
        Content_Encoding="gzip",
    )
    assert (reply.status, "without Content-Encoding" in reply.json()["error"]) == (415, True)


def test_tokens_are_those_of_grpc(models: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("trainer:secret-1\n")
    tokens.chmod(0o600)
    with serving(models, token_file=str(tokens)) as server:
        for path in (
            "/", "/api/models", "/api/models/large", "/api/models/large/revision/main",
            "/api/models/large/tree/main", "/api/models/large/refs", WEIGHTS,
            "/large/raw/main/config.json", "/large", "/-/plot/large",
        ):  # fmt: skip
            reply = ask(server, path)
            assert reply.status == 401
            assert "Bearer" in reply.headers["WWW-Authenticate"]
            assert ask(server, path, "HEAD", Authorization="Bearer wrong").status == 401
            assert ask(server, path, "HEAD", Authorization="Bearer secret-1").status == 200
        # Without a token, nothing tells which names there are.
        for path in ("/none", "/api/models/none", "/none/resolve/main/x", "/a/b/c/d"):
            assert ask(server, path).status == 401
        assert ask(server, "/api/models/large/paths-info/main", "POST", body=b"{}").status == 401
        basic = base64.b64encode(b"anyone:secret-1").decode()
        assert ask(server, "/", Authorization=f"Basic {basic}").status == 200
        for wrong in ("Basic", "Basic !!!", "Basic c2VjcmV0LTE=", "Bearer", "secret-1"):
            assert ask(server, "/", Authorization=wrong).status == 401
        tokens.write_text("trainer:secret-2\n")
        wait_for(lambda: ask(server, "/", "HEAD", Authorization="Bearer secret-2").status == 200)
        assert ask(server, "/", "HEAD", Authorization="Bearer secret-1").status == 401


def test_tls_is_that_of_grpc_and_follows_rotation(models: Path, tmp_path: Path) -> None:
    first, second = Authority("first"), Authority("second")
    cert, key = first.sign("localhost").write(tmp_path, "server")
    clients = tmp_path / "clients.crt"
    clients.write_bytes(first.pem)

    def trusting(authority: Authority, client: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if client:
            context.load_cert_chain(*first.sign("rank-0").write(tmp_path, "client"))
        return context

    config = {"tls_cert": cert, "tls_key": key, "tls_client_ca": str(clients)}
    with serving(models, **config) as server:
        assert ask(server, "/api/models", tls=trusting(first)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(server, "/api/models", tls=trusting(first, client=False))
        with pytest.raises(ssl.SSLError):
            ask(server, "/api/models", tls=trusting(second))
        second.sign("localhost").write(tmp_path, "server")

        def sees_the_second() -> bool:
            try:
                return ask(server, "/api/models", tls=trusting(second)).status == 200
            except ssl.SSLError:
                return False

        wait_for(sees_the_second)
        # Clients still need a certificate.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(server, "/api/models", tls=trusting(second, client=False))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_from_before_a_rotation_is_not_resumed(
    models: Path, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """A client of a removed authority is refused, also with the session that it has kept."""
    first, second = Authority("first"), Authority("second")
    cert, key = first.sign("localhost").write(tmp_path, "server")
    clients = tmp_path / "clients.crt"
    clients.write_bytes(first.pem)
    context = ssl.create_default_context(cadata=first.pem.decode())
    context.load_cert_chain(*first.sign("rank-0").write(tmp_path, "client"))
    context.minimum_version = context.maximum_version = version

    with serving(models, tls_cert=cert, tls_key=key, tls_client_ca=str(clients)) as server:
        host, _, port = server.hub_address.rpartition(":")

        def request(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
            with (
                socket.create_connection((host, int(port)), timeout=60) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
            ):
                client.sendall(b"HEAD /api/models HTTP/1.1\r\nHost: x\r\n\r\n")
                return client.recv(100), client.session

        def is_let_in(session: ssl.SSLSession | None) -> bool:
            try:
                return b" 200 " in request(session)[0]
            except (ssl.SSLError, ConnectionError):
                return False

        answer, kept = request(None)
        assert b" 200 " in answer
        assert is_let_in(kept)
        clients.write_bytes(second.pem)
        wait_for(lambda: not is_let_in(None))
        assert not is_let_in(kept)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"hub_listen": "0.0.0.0:0", "models": "x"}, "hub_listen is '0.0.0.0:0', so other"),
        ({"hub_listen": "127.0.0.1:0"}, "no models to serve there"),
        ({"hub_listen": "8080", "models": "x"}, "hub_listen is '8080'"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(given: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        ServerConfig(**given)  # type: ignore[arg-type]
    ServerConfig(hub_listen="0.0.0.0:0", models="x", insecure=True)


def test_requests_are_counted_and_logged(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "initserver.calls")

    def logged() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "initserver.calls"]

    with serving(models, metrics_listen="127.0.0.1:0") as server:
        # The server logs a request after its last byte has left: the next may be answered before.
        ask(server, WEIGHTS, Range="bytes=100-199", traceparent=f"00-{'ab' * 16}-{'1' * 16}-01")
        wait_for(lambda: len(logged()) == 1)
        ask(server, "/none/resolve/main/x")
        wait_for(lambda: len(logged()) == 2)
        assert server.metrics is not None
        text = server.metrics.text()[0].decode()
    assert 'initserver_calls_total{code="OK",method="hub/resolve"} 1.0' in text
    assert 'initserver_calls_total{code="NOT_FOUND",method="hub/resolve"} 1.0' in text
    done, missing = logged()
    fields = done.fields  # type: ignore[attr-defined]
    assert (fields["offset"], fields["limit"], fields["bytes"]) == (100, 100, 100)
    assert fields["plan"] == LARGE.digest[:12]
    assert fields["trace_id"] == "ab" * 16
    assert fields["peer"].startswith("ipv4:127.0.0.1:")
    assert "no model" in missing.getMessage()


def test_a_full_server_answers_that_it_is_full(models: Path) -> None:
    with serving(models, limits=Limits(max_streams=1), grace=0) as server:
        host, _, port = server.hub_address.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(f"GET {WEIGHTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert slow.recv(100)
            # Files of the folder and headers need no slot.
            assert ask(server, "/large/resolve/main/config.json").status == 200
            assert ask(server, WEIGHTS, Range="bytes=0-7").status == 206
            reply = ask(server, WEIGHTS)
            assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
        wait_for(lambda: ask(server, WEIGHTS).status == 200)


def test_a_stalled_reader_makes_room(models: Path) -> None:
    limits = Limits(max_streams=1, max_stall_seconds=1)
    with serving(models, limits=limits, grace=0) as server:
        host, _, port = server.hub_address.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(f"GET {WEIGHTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert slow.recv(100)
            assert ask(server, WEIGHTS).status == 200


def test_a_plan_above_a_limit_is_refused_over_http_too(models: Path) -> None:
    with serving(models, limits=Limits(max_fetch_bytes=1 << 20)) as server:
        assert ask(server, WEIGHTS).status == 400
        assert ask(server, WEIGHTS, Range="bytes=0-1000").status == 206


def test_matrices_are_shared_with_grpc(tmp_path: Path) -> None:
    plan = Plan({"q": orthogonal((512, 512))}, seed=3)
    put(tmp_path / "q", plan)
    with serving(tmp_path) as server:
        body = ask(server, "/q/resolve/main/model.safetensors").body
        begin = 8 + int.from_bytes(body[:8], "little")
        assert body[begin:] == ic.fetch(plan, target=server.address)["q"].tobytes()


def test_a_running_download_outlasts_the_order_to_stop(models: Path) -> None:
    with running(
        "--models", str(models), "--hub-listen", "127.0.0.1:0", "--grace", "20"
    ) as process:
        address = process.line(r"Hub endpoint at http://([^\s,]+)")[1]
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
            request = f"GET {WEIGHTS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            slow.sendall(request.encode())
            received = len(slow.recv(1000))
            process.process.terminate()
            # Past the time in which new calls are let in.
            time.sleep(1)
            while data := slow.recv(1 << 20):
                received += len(data)
        assert received > 3000 * 1024 * 4
        assert process.end() == 0


def test_workers_share_the_port(models: Path) -> None:
    with running(
        "--models", str(models), "--hub-listen", "127.0.0.1:0", "--workers", "2"
    ) as process:
        address = process.line(r"Hub endpoint at http://([^\s,]+)")[1]
        (commit,) = {_commit(address) for _ in range(6)}
        assert re.fullmatch("[0-9a-f]{40}", commit)


def _commit(address: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("HEAD", WEIGHTS)
    response = connection.getresponse()
    assert response.status == 200
    connection.close()
    return response.headers["X-Repo-Commit"]
