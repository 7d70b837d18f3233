"""Credentials that rotate: the last good ones stay in use, and the next good ones are taken."""

from __future__ import annotations

import time
from pathlib import Path

import initclient as ic
import pytest
from hypothesis import given, settings
from initclient._source import rotation
from initclient._transport.channel import tls_of

from tests.client.test_credentials import ONCE, PLAN, served
from tests.server.certificates import Authority, Pair
from tests.server.test_rotation import STEPS, Step, soon, write_in_place

AUTHORITY = Authority()


def sent(path: Path) -> str:
    """The token that a call sends; credentials are made anew for each call."""
    ((_, value),) = ic.Credentials(token_file=path).metadata()
    return value.removeprefix("Bearer ")


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_the_last_good_token_stays_and_the_next_one_is_taken(
    steps: list[Step],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("rotation") / "token"
    path.write_bytes(b"version-0\n")
    good = "version-0"
    assert sent(path) == good
    for number, (outage, way) in enumerate(steps, 1):
        if outage is not None:
            began = time.monotonic()
            outage(path)
            found = sent(path)
            # Half of a token is well-formed, and is taken for one when it stays.
            assert found == good or time.monotonic() - began > 1.5
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        if not path.exists():
            path.unlink(missing_ok=True)
            write_in_place(path, b"")
        good = f"version-{number}"
        way(path, good.encode() + b"\n")
        assert sent(path) == good


def test_a_file_that_was_never_good_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ic.AuthenticationError, match="cannot read the token file"):
        sent(path)
    path.write_text("")
    with pytest.raises(ic.AuthenticationError, match="is empty"):
        sent(path)
    path.write_text("good")
    assert sent(path) == "good"
    path.unlink()
    assert sent(path) == "good"


def test_half_a_token_that_stays_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a-long-token\n")
    assert sent(path) == "a-long-token"
    path.write_text("a-long")
    began = time.monotonic()
    found = sent(path)
    assert found == "a-long-token" or time.monotonic() - began > rotation.SETTLED
    soon(lambda: sent(path), "a-long")


def test_a_fetch_goes_on_while_the_token_file_is_away(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a-token\n")
    path.chmod(0o600)
    (tmp_path / "server").write_text("a-token\n")
    (tmp_path / "server").chmod(0o600)
    credentials = ic.Credentials(token_file=path)
    with served(token_file=str(tmp_path / "server")) as target:
        for _ in range(2):
            assert ic.fetch(PLAN, target=target, credentials=credentials, retry=ONCE)
            path.unlink(missing_ok=True)


def written(folder: Path, pair: Pair) -> dict[str, str]:
    cert, key = pair.write(folder, "client")
    return {"cert": cert, "key": key}


def test_a_certificate_and_its_key_change_together(tmp_path: Path) -> None:
    old, new = AUTHORITY.sign("client"), AUTHORITY.sign("client")
    (tmp_path / "ca").write_bytes(AUTHORITY.pem)
    credentials = ic.Credentials(ca=tmp_path / "ca", **written(tmp_path, old))  # type: ignore[arg-type]

    def pair() -> Pair:
        tls = tls_of(credentials)
        assert tls is not None
        assert tls.authorities == AUTHORITY.pem
        assert tls.cert is not None
        assert tls.key is not None
        return Pair(tls.cert, tls.key)

    assert pair() == old
    (tmp_path / "client.crt").write_bytes(new.cert)
    assert pair() == old, "the key is still the old one"
    (tmp_path / "client.key").write_bytes(new.key[:50])
    (tmp_path / "ca").write_bytes(AUTHORITY.pem[:70])
    assert pair() == old
    (tmp_path / "client.key").write_bytes(new.key)
    (tmp_path / "ca").write_bytes(AUTHORITY.pem)
    assert pair() == new


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    pair = Pair(AUTHORITY.sign("one").cert, AUTHORITY.sign("two").key)
    with pytest.raises(ic.AuthenticationError, match=r"client\.key and .*do not belong together"):
        tls_of(ic.Credentials(tls=True, **written(tmp_path, pair)))  # type: ignore[arg-type]
