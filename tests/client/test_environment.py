"""Inherited environments: a variable that is set, empty or wrong has no effect, or is named.

A new variable of client or core fails here until it has its rows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import initclient as ic
import pytest
from initserver import Server, ServerConfig

from tests.client import environment_calls
from tests.client.environment_calls import FINE
from tests.server.certificates import Authority

ROOT = Path(__file__).parents[2]


@dataclass
class Place:
    """Servers, and files to name."""

    plain: str
    tls: str
    folder: Path

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def garbage(self) -> str:
        return str(self.folder / "garbage")

    def value(self, text: str) -> str:
        """A value of the table, with its names replaced."""
        for name in ("plain", "tls", "ca", "garbage"):
            text = text.replace(f"<{name}>", getattr(self, name))
        return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("environment")
    authority = Authority()
    cert, key = authority.sign("server").write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "garbage").write_bytes(bytes(range(256)))
    with ExitStack() as stack:
        plain, tls = (
            stack.enter_context(
                Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", **files))  # type: ignore[arg-type]
            )
            for files in ({}, {"tls_cert": cert, "tls_key": key})
        )
        yield Place(plain.address, tls.address, folder)


# The effect of each value on the calls of `outcomes` that it changes; all others stay as they are
# without it: fine, but for "system", whose authorities did not sign the server's certificate.
# A text is a part of the error; FINE is no error.
Effects = dict[str, str]
OURS: dict[str, dict[str, Effects]] = {
    "INITSERVE_TARGET": {
        "": {},
        "local": {},
        "<plain>": {},
        "127.0.0.1:1": {"default": "no answer from 127.0.0.1:1"},
        "http://a:1": {"default": "ValueError: INITSERVE_TARGET is 'http://a:1'"},
        "a:1,,": {"default": "ValueError: INITSERVE_TARGET is 'a:1,,'"},
    },
    "INITSERVE_BACKEND": {
        "": {},
        "numpy": {},
        "wrong": dict.fromkeys(("local", "default"), "INITSERVE_BACKEND: 'wrong' is not known"),
    },
    "INITSERVE_CHECKPOINTS": {"": {}, "/missing": {}, "<garbage>": {}},
    "INITSERVE_THREADS": {
        "": {},
        "2": {},
        **{
            value: dict.fromkeys(("local", "default"), "ValueError: INITSERVE_THREADS is '")
            for value in ("0", "many", "-1", "9" * 5000)
        },
    },
    "INITSERVE_CPU_TARGET": {
        "": {},
        "x86-64-v9": dict.fromkeys(
            ("local", "default"), "BackendError: INITSERVE_CPU_TARGET is 'x86-64-v9'"
        ),
    },
    "INITSERVE_TLS": {
        "": {},
        "0": {},
        "1": {"plain": "does not speak TLS"},
        "maybe": {"plain": "ValueError: INITSERVE_TLS is 'maybe'; give 1 or 0"},
    },
    "INITSERVE_CA": {
        "": {},
        "/missing": {"plain": "/missing: No such file or directory (INITSERVE_CA names it)"},
        "<garbage>": {"plain": "holds no certificate in PEM form (INITSERVE_CA names it)"},
    },
    "INITSERVE_CERT": {
        "": {},
        "/missing": {"plain": "ValueError: INITSERVE_CERT is set and INITSERVE_KEY is not"},
    },
    "INITSERVE_KEY": {
        "": {},
        "/missing": {"plain": "ValueError: INITSERVE_KEY is set and INITSERVE_CERT is not"},
    },
    "INITSERVE_TOKEN_FILE": {
        "": {},
        "/missing": {
            "plain": "/missing: No such file or directory (INITSERVE_TOKEN_FILE names it)"
        },
        "<garbage>": {"plain": "garbage"},
    },
}
OTHERS: dict[str, dict[str, Effects]] = {
    "SSL_CERT_FILE": {
        "": {},
        "<ca>": {"system": FINE},
        "/missing": {"system": "/missing: No such file or directory (SSL_CERT_FILE names it)"},
        "<garbage>": {"system": "holds no certificate in PEM form (SSL_CERT_FILE names it)"},
    },
    "SSL_CERT_DIR": {"": {}, "/missing": {}, "<garbage>": {}},
    "OPENSSL_CONF": {"": {}, "/missing": {}, "<garbage>": {}},
    "SSLKEYLOGFILE": {"": {}},
    "GRPC_POLL_STRATEGY": {
        "poll": {},
        **{
            value: dict.fromkeys(("plain", "ca", "system"), f"GRPC_POLL_STRATEGY is {value!r}")
            for value in ("", "epollex", "none", "none,poll", " poll")
        },
    },
    "GRPC_SSL_CIPHER_SUITES": {
        value: dict.fromkeys(("ca", "system"), f"GRPC_SSL_CIPHER_SUITES, which is {value!r}")
        for value in ("", "wrong")
    },
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": {"": {}, "/missing": {}, "<garbage>": {}},
    "GRPC_DNS_RESOLVER": {"": {}, "native": {}, "wrong": {}},
    "GRPC_VERBOSITY": {"": {}, "loud": {}},
    "GRPC_TRACE": {"": {}, "wrong": {}},
    "GRPC_EXPERIMENTS": {"": {}, "wrong": {}},
    "GRPC_ENABLE_FORK_SUPPORT": {"": {}, "1": {}, "wrong": {}},
    "GRPC_NOT_USE_SYSTEM_SSL_ROOTS": {"": {}, "1": {}, "wrong": {}},
    "GRPC_SYSTEM_SSL_ROOTS_DIR": {"": {}, "/missing": {}},
    "GRPC_XDS_BOOTSTRAP": {"": {}, "/missing": {}},
    "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": {"": {}, "wrong": {}, "-5": {}},
    "GRPC_ADDRESS_HTTP_PROXY": {"": {}, "127.0.0.1:1": {}, "wrong": {}},
    **{
        name: {"": {}, "http://127.0.0.1:1": {}, "wrong": {}, "socks5://127.0.0.1:1": {}}
        for name in ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy", "HTTPS_PROXY")
    },
    "no_proxy": {"": {}, "*": {}, "10.0.0.0/99": {}},
}
TABLE = OURS | OTHERS
ROWS = [
    pytest.param(name, value, effects, id=f"{name}={value[:20]}")
    for name, values in TABLE.items()
    for value, effects in values.items()
    if effects
]
# Values without an effect, one of each variable at a time.
HARMLESS = {name: [v for v, effects in rows.items() if not effects] for name, rows in TABLE.items()}
ROUNDS = range(max(map(len, HARMLESS.values())))
DEFAULT = {"plain": FINE, "ca": FINE, "local": FINE, "default": FINE}
REFUSED = "is not accepted"


def test_every_variable_of_ours_has_its_rows() -> None:
    found = set()
    for package in ("client", "core"):
        for path in (ROOT / package).rglob("*.py"):
            found |= set(re.findall(r"\bINITSERVE_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    assert found == set(OURS)


def in_a_process(place: Place, variables: Mapping[str, str]) -> dict[str, str]:
    """The outcomes in a process that has these variables and no other that could matter."""
    inherited = {name: text for name, text in os.environ.items() if not matters(name)}
    given = {name: place.value(text) for name, text in variables.items()}
    run = subprocess.run(
        [sys.executable, environment_calls.__file__, place.plain, place.tls, place.ca],
        env=inherited | given,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return dict(json.loads(run.stdout))


def matters(name: str) -> bool:
    prefixes = ("INITSERVE_", "GRPC_", "SSL_", "OPENSSL_")
    return name.startswith(prefixes) or name.lower().endswith("_proxy")


def check(found: Mapping[str, str], effects: Effects) -> None:
    """Compares outcomes with those of a row."""
    expected = DEFAULT | {"system": REFUSED} | effects
    assert set(found) == set(expected)
    for call, text in expected.items():
        assert (found[call] == FINE) if text == FINE else (text in found[call]), found[call]


@pytest.mark.parametrize(("name", "value", "effects"), ROWS)
def test_a_variable_with_an_effect_is_named(
    name: str, value: str, effects: Effects, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("GRPC_") or name == "INITSERVE_CPU_TARGET":
        # They are read once a process.
        check(in_a_process(place, {name: value}), effects)
        return
    for other in filter(matters, list(os.environ)):
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, place.value(value))
    check(environment_calls.outcomes(place.plain, place.tls, place.ca), effects)


@pytest.mark.parametrize("turn", ROUNDS)
def test_all_others_have_none(turn: int, place: Place) -> None:
    variables = {name: values[turn % len(values)] for name, values in HARMLESS.items() if values}
    check(in_a_process(place, variables), {})


def test_a_folder_of_checkpoints_is_named_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = {"w": ic.pretrained((2,), checkpoint="m.safetensors")}
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", "/missing")
    with pytest.raises(ic.CheckpointError, match=r"\(INITSERVE_CHECKPOINTS names it\)"):
        ic.fetch(plan, target="local")


def test_a_token_that_would_leave_in_the_open_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("INITSERVE_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ValueError, match="INITSERVE_TOKEN_FILE is set: a token for init"):
        ic.fetch({"w": ic.ones((2,))}, target="init.example:1")
