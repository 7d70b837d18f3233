"""TLS lets in whom it should, keeps out the others, and follows rotated certificates."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server, ServerConfig
from initserver.net.certificates import validity

from tests.server.certificates import Authority, Pair

ROOT = Authority()
CLIENTS = Authority("authority of clients")


@contextmanager
def serving(folder: Path, pair: Pair, *, client_ca: bytes = b"") -> Iterator[Server]:
    cert, key = pair.write(folder, "server")
    ca = folder / "clients.crt"
    ca.write_bytes(client_ca)
    config = ServerConfig(
        listen="127.0.0.1:0",
        backend="numpy",
        grace=1,
        tls_cert=cert,
        tls_key=key,
        tls_client_ca=str(ca) if client_ca else None,
    )
    with Server(config) as server:
        yield server


def ask(server: Server, root: bytes | None = ROOT.pem, client: Pair | None = None) -> str:
    """The server's version, over a connection of its own and as a stream and a single call."""
    credentials = grpc.ssl_channel_credentials(
        root, client.key if client else None, client.cert if client else None
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(server.address, credentials, options) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        plan = to_proto(Plan({"w": normal((100,))}))
        assert len(list(stub.Fetch(service_pb2.FetchRequest(plan=plan), timeout=10))) == 2
        return str(stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10).version)


def refused(server: Server, root: bytes = ROOT.pem, client: Pair | None = None) -> str:
    """Why the call failed."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, root, client)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


def shown(server: Server) -> str:
    """The certificate that a new connection sees."""
    host, _, port = server.address.partition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_a_client_that_trusts_the_authority_is_served(tmp_path: Path) -> None:
    with serving(tmp_path, ROOT.sign("server")) as server:
        assert ask(server)


def test_a_client_without_tls_is_kept_out(tmp_path: Path) -> None:
    with (
        serving(tmp_path, ROOT.sign("server")) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.InitServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_client_that_trusts_another_authority_stays_away(tmp_path: Path) -> None:
    with serving(tmp_path, ROOT.sign("server")) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in refused(server, Authority("other").pem)


def test_clients_stay_away_from_an_expired_certificate_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, ROOT.sign("server", begins=-2, ends=-1)) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in refused(server)
    assert "clients will refuse the certificate" in caplog.text


def test_with_mutual_tls_a_client_with_a_certificate_is_served_and_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(tmp_path, ROOT.sign("server"), client_ca=CLIENTS.pem) as server:
        assert ask(server, client=CLIENTS.sign("trainer-7"))
    assert "as trainer-7" in caplog.text


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(None, id="none"),
        pytest.param(ROOT.sign("client"), id="of another authority"),
        pytest.param(CLIENTS.sign("client", begins=-2, ends=-1), id="expired"),
        pytest.param(CLIENTS.sign("client", begins=0.5), id="not valid yet"),
    ],
)
def test_with_mutual_tls_other_clients_are_kept_out(tmp_path: Path, client: Pair | None) -> None:
    with serving(tmp_path, ROOT.sign("server"), client_ca=CLIENTS.pem) as server:
        assert refused(server, client=client)
        assert ask(server, client=CLIENTS.sign("client"))


def test_a_rotated_certificate_is_shown_to_the_next_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new = ROOT.sign("old"), ROOT.sign("new")
    with serving(tmp_path, old) as server:
        assert shown(server) == old.cert.decode()
        new.write(tmp_path, "server")
        assert shown(server) == new.cert.decode()
        assert ask(server)
    assert "certificate changed and was read again" in caplog.text


def test_a_new_authority_of_clients_lets_in_its_clients_and_keeps_out_the_old(
    tmp_path: Path,
) -> None:
    other = Authority("next")
    with serving(tmp_path, ROOT.sign("server"), client_ca=CLIENTS.pem) as server:
        assert ask(server, client=CLIENTS.sign("client"))
        (tmp_path / "clients.crt").write_bytes(other.pem)
        assert ask(server, client=other.sign("client"))
        assert refused(server, client=CLIENTS.sign("client"))


def test_an_atomic_swap_of_a_linked_folder_is_seen(tmp_path: Path) -> None:
    # As Kubernetes mounts secrets: the files are links through ..data, which is replaced.
    old, new = ROOT.sign("old"), ROOT.sign("new")
    for folder, pair in (("1", old), ("2", new)):
        (tmp_path / folder).mkdir()
        pair.write(tmp_path / folder, "server")
    (tmp_path / "data").symlink_to("1")
    config = ServerConfig(
        listen="127.0.0.1:0",
        backend="numpy",
        grace=1,
        tls_cert=str(tmp_path / "data" / "server.crt"),
        tls_key=str(tmp_path / "data" / "server.key"),
    )
    with Server(config) as server:
        assert shown(server) == old.cert.decode()
        (tmp_path / "next").symlink_to("2")
        os.replace(tmp_path / "next", tmp_path / "data")
        assert shown(server) == new.cert.decode()


@pytest.mark.parametrize("state", ["half written", "another's key", "expired", "missing", "text"])
def test_a_broken_rotation_keeps_the_old_certificate_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    old, new = ROOT.sign("old"), ROOT.sign("new")
    with serving(tmp_path, old) as server:
        if state == "half written":
            (tmp_path / "server.crt").write_bytes(new.cert[: len(new.cert) // 2])
        elif state == "another's key":
            (tmp_path / "server.key").write_bytes(new.key)
        elif state == "expired":
            ROOT.sign("late", begins=-2, ends=-1).write(tmp_path, "server")
        elif state == "missing":
            (tmp_path / "server.crt").unlink()
        else:
            (tmp_path / "server.crt").write_text("no certificate")
        for _ in range(3):
            assert shown(server) == old.cert.decode()
        lines = [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()]
        assert len(lines) == 1
        assert "the last valid one stays" in lines[0]

        new.write(tmp_path, "server")
        assert shown(server) == new.cert.decode()
    assert new.key.decode()[40:80] not in caplog.text


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"tls_cert": "/nowhere"}, "tls_cert", "No such file"),
        ({"tls_key": "/nowhere"}, "tls_key", "No such file"),
        ({"tls_key": "{other}"}, "tls_cert", "the key is not this certificate's"),
        ({"tls_key": "{cert}"}, "tls_cert", "PEM form"),
        ({"tls_client_ca": "{key}"}, "tls_client_ca", "certificates in PEM form"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_the_start(
    tmp_path: Path, change: dict[str, str], field: str, reason: str
) -> None:
    cert, key = ROOT.sign("server").write(tmp_path, "server")
    _, other = ROOT.sign("other").write(tmp_path, "other")
    values = {"tls_cert": cert, "tls_key": key} | {
        name: path.format(cert=cert, key=key, other=other) for name, path in change.items()
    }
    with pytest.raises(ValueError, match=rf"^{field} is .*{reason}"):
        Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", **values))


@pytest.mark.parametrize("given", [{"tls_cert": "c"}, {"tls_key": "k"}, {"tls_client_ca": "a"}])
def test_half_a_configuration_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^tls_(cert|key) is not given"):
        ServerConfig(**given)


def test_a_key_that_everybody_can_read_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = ROOT.sign("server")
    cert, key = pair.write(tmp_path, "server")
    os.chmod(key, 0o644)
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", tls_cert=cert, tls_key=key)
    Server(config).close(0)
    assert f"chmod o-r {key}" in caplog.text


def test_dates_are_read_from_a_certificate_as_the_library_reads_them() -> None:
    from cryptography import x509

    for ends in (1, 365 * 40):  # the second one is past 2049, which is written in another way
        pair = ROOT.sign("server", ends=ends)
        expected = x509.load_pem_x509_certificate(pair.cert)
        assert validity(pair.cert) == (expected.not_valid_before_utc, expected.not_valid_after_utc)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nMII=\n"])
def test_what_is_no_certificate_has_no_dates(pem: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        validity(pem)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:1", "10.0.0.1:1", "init.ml.svc:1"])
def test_other_machines_need_tls_or_insistence(listen: str) -> None:
    with pytest.raises(ValueError, match=r"^listen is .*--tls-cert.*--insecure"):
        ServerConfig(listen=listen)
    assert ServerConfig(listen=listen, insecure=True).listen == listen
    assert ServerConfig(listen=listen, tls_cert="c", tls_key="k").listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_this_machine_needs_none(listen: str) -> None:
    assert ServerConfig(listen=listen).listen == listen
