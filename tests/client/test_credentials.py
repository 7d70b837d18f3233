"""Certificates and tokens: accepted ones, refused ones, and the errors of both sides."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient.cli import main
from initserver import Server, ServerConfig

from tests.client.servers import Changed, serving
from tests.server.certificates import Authority

PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
ONCE = ic.Retry(attempts=1)
TOKEN = "a-secret-that-nobody-may-see"


@contextmanager
def served(**config: object) -> Iterator[str]:
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, **config)) as server:  # type: ignore[arg-type]
        yield server.address


@dataclasses.dataclass(frozen=True)
class Files:
    """Certificates, keys and tokens on disk."""

    folder: Path
    authority: Authority

    @property
    def ca(self) -> str:
        return self.write("ca.pem", self.authority.pem)

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def server(self, name: str = "server", **dates: float) -> dict[str, str]:
        cert, key = self.authority.sign(name, **dates).write(self.folder, name)
        return {"tls_cert": cert, "tls_key": key}

    def client(self, authority: Authority | None = None) -> dict[str, str]:
        pair = (authority or self.authority).sign("client")
        cert, key = pair.write(self.folder, "client")
        return {"cert": cert, "key": key}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, Authority())


def fetched(target: str, credentials: ic.Credentials | None = None) -> bool:
    weights = ic.fetch(PLAN, target=target, credentials=credentials, retry=ONCE, timeout=30)
    return np.array_equal(weights["w"], ic.fetch(PLAN, target="local")["w"])


def test_a_server_of_the_own_authority_is_believed(files: Files) -> None:
    with served(**files.server()) as target:
        assert fetched(target, ic.Credentials(ca=files.ca))
        assert ic.describe(PLAN, target=target, credentials=ic.Credentials(ca=files.ca)).size


async def _aio_fetch(target: str, credentials: ic.Credentials) -> bytes:
    weights = await aio.fetch(PLAN, target=target, credentials=credentials, retry=ONCE)
    return weights["w"].tobytes()


def test_asyncio_uses_the_same_credentials(files: Files) -> None:
    (files.folder / "token").write_text(f"{TOKEN}\n")
    token = str(files.folder / "token")
    good = ic.Credentials(ca=files.ca, token=TOKEN)
    with served(**files.server(), token_file=token) as target:
        assert asyncio.run(_aio_fetch(target, good)) == ic.fetch(PLAN)["w"].tobytes()
        with pytest.raises(ic.AuthenticationError):
            asyncio.run(_aio_fetch(target, dataclasses.replace(good, token="wrong")))
        with pytest.raises(ic.AuthenticationError, match="is not accepted"):
            asyncio.run(_aio_fetch(target, ic.Credentials(tls=True, token=TOKEN)))


def test_a_server_of_another_authority_is_not(files: Files) -> None:
    other = files.write("other.pem", Authority("other").pem)
    with (
        served(**files.server()) as target,
        pytest.raises(
            ic.AuthenticationError, match=rf"the certificate of {target} is not accepted"
        ),
    ):
        ic.fetch(PLAN, target=target, credentials=ic.Credentials(ca=other))


def test_an_expired_certificate_says_so(files: Files) -> None:
    with (
        served(**files.server(begins=-3, ends=-1)) as target,
        pytest.raises(ic.AuthenticationError, match="certificate has expired"),
    ):
        ic.fetch(PLAN, target=target, credentials=ic.Credentials(ca=files.ca))


def test_a_certificate_for_another_name_says_so(files: Files) -> None:
    with served(**files.server()) as target:
        # The same server by an address that its certificate does not have.
        other = f"ipv6:[::ffff:127.0.0.1]:{target.rpartition(':')[2]}"
        with pytest.raises(ic.AuthenticationError, match="for another name"):
            ic.fetch(PLAN, target=other, credentials=ic.Credentials(ca=files.ca))


def test_without_tls_the_hint_is_tls(files: Files) -> None:
    with (
        served(**files.server()) as target,
        pytest.raises(ic.UnavailableError, match=r"Does it ask for TLS\?"),
    ):
        ic.fetch(PLAN, target=target, retry=ONCE)


def test_tls_to_a_plain_server_is_told(files: Files, target: str) -> None:
    with pytest.raises(ic.AuthenticationError, match="does not speak TLS"):
        ic.fetch(PLAN, target=target, credentials=ic.Credentials(ca=files.ca))


def test_mutual_tls(files: Files) -> None:
    with served(**files.server(), tls_client_ca=files.ca) as target:
        assert fetched(target, ic.Credentials(ca=files.ca, **files.client()))
        for wrong in (
            ic.Credentials(ca=files.ca),
            ic.Credentials(ca=files.ca, **files.client(Authority("other"))),
        ):
            with pytest.raises(ic.TransportError, match="a client certificate that it accepts"):
                ic.fetch(PLAN, target=target, credentials=wrong, retry=ONCE)


def test_tokens(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write("token", f"{TOKEN}\n".encode())
    with served(token_file=path) as target:
        assert fetched(target, ic.Credentials(token=TOKEN))
        assert fetched(target, ic.Credentials(token_file=path))
        monkeypatch.setenv("INITSERVE_TOKEN_FILE", path)
        assert fetched(target)
        for wrong in (ic.Credentials(), ic.Credentials(token="never-heard")):
            with pytest.raises(ic.AuthenticationError, match="refuses this client") as it:
                ic.fetch(PLAN, target=target, credentials=wrong)
            assert "never-heard" not in str(it.value)
            assert ("--token-file" in str(it.value)) == (wrong.token is None)


@pytest.mark.parametrize(
    "text", [f"trainer:{TOKEN}\n", f"# who may call\n\n  {TOKEN}\r\n", f"a.b-c_1:{TOKEN}"]
)
def test_a_server_and_its_client_may_read_the_same_file(
    text: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write("tokens", text.encode())
    monkeypatch.setenv("INITSERVE_TOKEN_FILE", path)
    with served(token_file=path) as target:
        assert fetched(target)


def test_a_file_of_several_tokens_is_no_client_s(files: Files, target: str) -> None:
    path = files.write("tokens", b"alice:first\nbob:second\n")
    with pytest.raises(ic.AuthenticationError, match=r"holds 2 tokens.*--token-file") as caught:
        ic.fetch(PLAN, target=target, credentials=ic.Credentials(token_file=path))
    assert "first" not in str(caught.value)
    assert "second" not in str(caught.value)


def test_a_token_that_has_a_colon_and_no_name_is_sent_as_it_is(files: Files) -> None:
    path = files.write("token", b"not/a.name:but=a:token")
    sent = ic.Credentials(token_file=path).metadata()
    assert sent == (("authorization", "Bearer not/a.name:but=a:token"),)


def test_a_rotated_token_is_read_again_for_every_call(files: Files) -> None:
    path = Path(files.write("token", b"first"))
    seen = []

    def note(messages: list[object], context: object) -> None:
        seen.append(dict(context.invocation_metadata())["authorization"])  # type: ignore[attr-defined]
        path.write_text("second")
        if len(seen) == 1:
            del messages[-1]

    with serving(Changed(note)) as target:
        ic.fetch(PLAN, target=target, credentials=ic.Credentials(token_file=path), retry=ic.Retry())
    assert seen == ["Bearer first", "Bearer second"]


def test_a_token_is_never_shown() -> None:
    credentials = ic.Credentials(token=TOKEN)
    assert TOKEN not in repr(credentials)
    with pytest.raises(ValueError, match="unencrypted") as caught:
        ic.fetch(PLAN, target="init.example:1", credentials=credentials)
    assert TOKEN not in str(caught.value)
    with pytest.raises(ValueError, match="visible ASCII") as caught:
        ic.Credentials(token=f"{TOKEN} ")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/tmp/socket", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("10.0.0.1:1", False),
        ("[::]:1", False),
        ("localhost.example:1", False),
        ("dns://127.0.0.1/init.example:1", False),
    ],
)
def test_only_this_machine_gets_a_token_in_the_open(address: str, expected: bool) -> None:
    credentials = ic.Credentials(token=TOKEN)
    if expected:
        credentials.check([address])
    else:
        with pytest.raises(ValueError, match="unencrypted"):
            credentials.check(["127.0.0.1:1", address])
    dataclasses.replace(credentials, plaintext_token=True).check([address])
    dataclasses.replace(credentials, tls=True).check([address])


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cert is given and key is not"):
        ic.Credentials(cert="x")
    with pytest.raises(ValueError, match="key is given and cert is not"):
        ic.Credentials(key="x")
    with pytest.raises(ValueError, match="both given"):
        ic.Credentials(token="x", token_file="y")


def test_files_that_are_missing_or_wrong_are_named(files: Files, target: str) -> None:
    missing = str(files.folder / "nothing")
    for credentials in (ic.Credentials(ca=missing), ic.Credentials(token_file=missing)):
        with pytest.raises(ic.AuthenticationError, match=f"cannot read .* file {missing}: No such"):
            ic.fetch(PLAN, target=target, credentials=credentials)
    empty = files.write("empty", b"\n")
    with pytest.raises(ic.AuthenticationError, match=r"token in .*empty is empty"):
        ic.fetch(PLAN, target=target, credentials=ic.Credentials(token_file=empty))


WRONG_PEM = [
    b"",
    b"no certificate",
    b"-----BEGIN CERTIFICATE-----\nMII=\n",
    bytes(range(256)),
]


@pytest.mark.parametrize("text", WRONG_PEM)
def test_a_file_that_is_no_pem_is_named_before_a_server_is_asked(text: bytes, files: Files) -> None:
    wrong, pair = files.write("wrong.pem", text), files.client()
    for credentials, kind in (
        (ic.Credentials(ca=wrong), "CA"),
        (ic.Credentials(ca=files.ca, cert=wrong, key=pair["key"]), "certificate"),
        (ic.Credentials(ca=files.ca, cert=pair["cert"], key=wrong), "key"),
    ):
        with pytest.raises(ic.AuthenticationError, match=rf"the {kind} file .*wrong\.pem holds no"):
            ic.fetch(PLAN, target="127.0.0.1:1", credentials=credentials)


def test_the_environment_and_the_command_name_files(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = files.write("token", TOKEN.encode())
    plan = files.folder / "plan.yaml"
    ic.dump_plan(PLAN, plan)
    client = files.client()
    ca = files.ca
    with served(**files.server(), tls_client_ca=ca, token_file=token) as target:
        out = ["--out", str(files.folder / "out"), "--target", target, "--attempts", "1"]
        given = ["--ca", ca, "--cert", client["cert"], "--key", client["key"]]
        assert main(["fetch", str(plan), *out, *given, "--token-file", token]) == 0
        assert main(["describe", str(plan), *out[2:], *given, "--token-file", token]) == 0
        assert main(["fetch", str(plan), *out, *given]) == 1
        assert "refuses this client" in capsys.readouterr().err
        monkeypatch.setenv("INITSERVE_CA", ca)
        monkeypatch.setenv("INITSERVE_CERT", client["cert"])
        monkeypatch.setenv("INITSERVE_KEY", client["key"])
        monkeypatch.setenv("INITSERVE_TOKEN_FILE", token)
        assert main(["fetch", str(plan), *out]) == 0
    monkeypatch.setenv("INITSERVE_TLS", "maybe")
    assert main(["fetch", str(plan), *out]) == 2
    assert "INITSERVE_TLS is 'maybe'" in capsys.readouterr().err
