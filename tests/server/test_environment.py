"""Every variable that a server may inherit: one sentence that names it, or no effect."""

from __future__ import annotations

import re
import signal
import urllib.request
from pathlib import Path

import grpc
import initclient as ic
import pytest
from initcore import Plan, normal
from initserver.cli import main
from initserver.config.environment import check_environment
from initserver.config.flags import _options

from tests.server.certificates import Authority
from tests.server.processes import Running, running

PLAN = Plan({"w": normal((100,))})
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
NOWHERE = "/nowhere/at/all"

# A value that the variable cannot have.
WRONG_OURS = {
    "LISTEN": "nowhere",
    "BACKEND": "abacus",
    "THREADS": "-1",
    "WORKERS": "many",
    "CHECKPOINTS": NOWHERE,
    "MODELS": NOWHERE,
    "HUB_LISTEN": "8080",
    "TLS_CERT": NOWHERE,
    "TLS_KEY": NOWHERE,
    "TLS_CLIENT_CA": NOWHERE,
    "TOKEN_FILE": NOWHERE,
    "INSECURE": "perhaps",
    "GRACE": "nan",
    "MAX_CONNECTION_AGE": "-0.5",
    "METRICS_LISTEN": "9090",
    "TRACE": "perhaps",
    "LOG_FORMAT": "xml",
    "LOG_LEVEL": "loud",
}

# Without effect on a server, whatever they hold.
NO_EFFECT = {
    "GRPC_DNS_RESOLVER": "abacus",
    "GRPC_ENABLE_FORK_SUPPORT": "perhaps",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": NOWHERE,
    "GRPC_SYSTEM_SSL_ROOTS_DIR": NOWHERE,
    "GRPC_NOT_USE_SYSTEM_SSL_ROOTS": "perhaps",
    "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "long",
    "GRPC_ABORT_ON_LEAKS": "perhaps",
    "GRPC_XDS_BOOTSTRAP": NOWHERE,
    "GRPC_SSL_CIPHER_SUITES": "abacus",  # without TLS
    "PROMETHEUS_MULTIPROC_DIR": NOWHERE,
    "prometheus_multiproc_dir": NOWHERE,
    "PROMETHEUS_DISABLE_CREATED_SERIES": "perhaps",
    "OPENSSL_CONF": NOWHERE,
    "OPENSSL_MODULES": NOWHERE,
    "SSL_CERT_FILE": NOWHERE,
    "SSL_CERT_DIR": NOWHERE,
    "SSLKEYLOGFILE": NOWHERE,
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
    "TMPDIR": NOWHERE,
    "INITSERVE_TARGET": "nowhere:1",
    "INITSERVE_NO_SUCH_SETTING": "1",
    # No tracing is asked for.
    "OTEL_PROPAGATORS": "abacus",
    "OTEL_BSP_MAX_QUEUE_SIZE": "many",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "long",
}

# Variables of OpenTelemetry that it, or its exporter, cannot use.
WRONG_TRACING = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": "long",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "longer",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "abacus",
    "OTEL_EXPORTER_OTLP_HEADERS": "=;;,=",
    "OTEL_BSP_MAX_QUEUE_SIZE": "many",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "999999",
    "OTEL_BSP_SCHEDULE_DELAY": "soon",
    "OTEL_TRACES_SAMPLER": "abacus",
    "OTEL_PROPAGATORS": "abacus",
    "OTEL_RESOURCE_ATTRIBUTES": "=,,,=a",
    "OTEL_PYTHON_CONTEXT": "abacus",
    "OTEL_PYTHON_TRACER_PROVIDER": "abacus",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "many",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "-1",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "abacus",
}

# Variables of OpenTelemetry that its exporter over gRPC does not read, or forgives.
NOT_USED = {
    "OTEL_PYTHON_ID_GENERATOR": "abacus",
    "OTEL_EXPORTER_OTLP_INSECURE": "perhaps",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "abacus",
    "OTEL_LOG_LEVEL": "loud",
    "OTEL_TRACES_EXPORTER": "abacus",
    "OTEL_TRACES_SAMPLER_ARG": "much",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": NOWHERE,
    "OTEL_SDK_DISABLED": "perhaps",
}


def assert_serves(server: Running) -> None:
    assert ic.fetch(PLAN, target=server.address)["w"].shape == (100,)
    with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=30) as answer:
        assert b"initserver_calls_total" in answer.read()


def said(server: Running) -> list[str]:
    """The log, without what it says of itself and of calls."""
    usual = re.compile(r"listening at|stopped|Fetch, OK|is ready|stands by")
    return [line for line in server.log if not usual.search(line)]


def test_the_table_has_every_variable_of_ours() -> None:
    settings = {one.variable for one in _options() if one.group != "limits"}
    assert settings == {f"INITSERVE_{name}" for name in WRONG_OURS}


@pytest.mark.parametrize(
    ("name", "value"),
    [(f"INITSERVE_{name}", value) for name, value in WRONG_OURS.items()]
    + [
        (one.variable, value)
        for one in _options()
        if one.group == "limits"
        for value in ("-1", "x")
    ],
)
def test_a_wrong_variable_of_ours_is_one_sentence(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    if name not in ("INITSERVE_LISTEN", "INITSERVE_BACKEND"):
        monkeypatch.setenv("INITSERVE_LISTEN", "127.0.0.1:0")
    if name.startswith("INITSERVE_TLS"):
        # One without the others is refused before it is looked at.
        for other in ("CERT", "KEY", "CLIENT_CA"):
            monkeypatch.setenv(f"INITSERVE_TLS_{other}", value)
    status = main([])
    text = capfd.readouterr().err
    assert status == 2
    assert text.startswith("initserver: error: ")
    assert text.count("\n") == 1
    assert name in text or value in text
    assert "Traceback" not in text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_variables_without_effect_have_none(workers: str) -> None:
    empty = {one.variable: "" for one in _options() if one.name not in ("backend",)}
    arguments = ("--workers", workers, "--metrics-listen", "127.0.0.1:0")
    with running(*arguments, **(empty | NO_EFFECT)) as server:
        assert_serves(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert said(server) == []


def test_empty_variables_count_as_none() -> None:
    names = {**NO_EFFECT, **WRONG_TRACING, **NOT_USED, **COLLECTOR}
    names |= dict.fromkeys(("GRPC_VERBOSITY", "GRPC_TRACE"), "")
    with running("--metrics-listen", "127.0.0.1:0", **dict.fromkeys(names, "")) as server:
        assert_serves(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        # gRPC says in one line which of its own are no numbers.
        text = "".join(said(server))
        assert all("GRPC_" in one for one in re.split("(?<=: )(?=Error)|\n", text) if one), text


@pytest.mark.parametrize("name", WRONG_TRACING)
def test_a_wrong_variable_of_tracing_is_one_sentence(name: str) -> None:
    """A warning where variables of a whole cluster turn tracing on."""
    environment = COLLECTOR | {name: WRONG_TRACING[name], "OTEL_EXPORTER_OTLP_INSECURE": "true"}
    with running("--grace", "0", "--metrics-listen", "127.0.0.1:0", **environment) as server:
        assert_serves(server)
        lines = said(server)
        assert lines
        assert all("warning" in line and name in line for line in lines), lines


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_PROPAGATORS"])
def test_a_wrong_variable_of_tracing_ends_a_command_that_asks_for_it(name: str) -> None:
    with running("--trace", **(COLLECTOR | {name: WRONG_TRACING[name]})) as server:
        assert server.end() == 2
    assert len(server.log) == 1
    assert server.log[0].startswith("initserver: error: ")
    assert name in server.log[0]


def test_variables_of_tracing_that_are_not_used_have_no_effect() -> None:
    with running(
        "--grace", "0", "--metrics-listen", "127.0.0.1:0", **(COLLECTOR | NOT_USED)
    ) as server:
        assert_serves(server)
        assert said(server) == []


@pytest.mark.parametrize("value", ["abacus", ""])
def test_a_poll_strategy_that_grpc_does_not_know_is_one_sentence(value: str) -> None:
    """gRPC itself would abort the process."""
    with running(GRPC_POLL_STRATEGY=value) as server:
        assert server.end() == 2
    assert len(server.log) == 1
    assert server.log[0].startswith(f"initserver: error: GRPC_POLL_STRATEGY is {value!r}")


def test_cipher_suites_that_do_not_exist_are_one_sentence(tmp_path: Path) -> None:
    """gRPC itself would refuse every handshake, without a word in the log."""
    authority = Authority()
    cert, key = authority.sign("localhost").write(tmp_path, "server")
    arguments = ("--tls-cert", cert, "--tls-key", key)
    for wrong in ("abacus", ""):
        with running(*arguments, GRPC_SSL_CIPHER_SUITES=wrong) as server:
            assert server.end() == 2
        assert len(server.log) == 1
        assert server.log[0].startswith(f"initserver: error: GRPC_SSL_CIPHER_SUITES is {wrong!r}")
    suites = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    with running(*arguments, GRPC_SSL_CIPHER_SUITES=suites) as server:
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(server.address, credentials) as channel:
            grpc.channel_ready_future(channel).result(30)


def test_a_verbosity_that_grpc_does_not_know_is_a_warning() -> None:
    (warning,) = check_environment({"GRPC_VERBOSITY": "loud"}, tls=False)
    assert warning.startswith("GRPC_VERBOSITY is 'loud'")
    assert check_environment({"GRPC_VERBOSITY": "ERROR"}, tls=False) == []
