"""The command `initserver`, as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from initcore import Plan, __version__, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server
from initserver.cli import main

COMMAND = [sys.executable, "-m", "initserver", "--backend", "numpy"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and the first line it writes."""
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


def address_in(line: str) -> str:
    found = re.search(r"listening at (\S+),", line)
    assert found, line
    return found[1]


def test_sigterm_lets_a_running_download_finish() -> None:
    with running("--listen", "127.0.0.1:0") as (process, line):
        assert f"initserver {__version__}" in line
        assert "backend numpy, stream v1" in line
        address = address_in(line)
        plan = Plan({"w": normal((3000, 1000))})
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.InitServiceStub(channel)
            call = stub.Fetch(service_pb2.FetchRequest(plan=to_proto(plan)), timeout=60)
            size = next(call).info.total_size
            process.send_signal(signal.SIGTERM)
            assert sum(len(message.chunk.data) for message in call) == size
        assert process.wait(20) == 0


def test_the_second_signal_ends_it_at_once() -> None:
    with running("--listen", "127.0.0.1:0", "--grace", "60") as (process, line):
        plan = Plan({"w": normal((1 << 20, 1 << 20))})
        with grpc.insecure_channel(address_in(line)) as channel:
            stub = service_pb2_grpc.InitServiceStub(channel)
            call = stub.Fetch(service_pb2.FetchRequest(plan=to_proto(plan)), timeout=60)
            next(call)
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM


def test_listening_beyond_this_machine_without_tls_is_refused() -> None:
    with running("--listen", "0.0.0.0:0") as (process, line):
        assert process.wait(20) == 2
        assert line.startswith("initserver: error: --listen is '0.0.0.0:0'")
        for remedy in ("--tls-cert", "127.0.0.1", "--insecure"):
            assert remedy in line


def test_listening_beyond_this_machine_can_be_insisted_on_and_warns() -> None:
    with running("--listen", "0.0.0.0:0", "--insecure") as (process, line):
        assert "listening at 0.0.0.0:" in line
        assert process.stderr is not None
        assert "not encrypted" in process.stderr.readline()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--listen", "127.0.0.1"], "HOST:PORT"),
        (["--listen", "192.0.2.1:1"], "192.0.2.1:1"),
        (["--threads", "0"], "threads is 0"),
    ],
)
def test_bad_arguments_are_one_sentence_and_status_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--backend", "numpy", *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_a_port_in_use_is_one_sentence_and_status_2(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--backend", "numpy", "--listen", server.address]) == 2
    error = capfd.readouterr().err
    assert error == (
        f"initserver: error: cannot listen at {server.address}: Address already in use; another "
        "program listens there: stop it, or choose another port\n"
    )


def test_the_backend_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INITSERVE_BACKEND", "abacus")
    assert main(["--listen", "127.0.0.1:0"]) == 2
    assert "'abacus' is not known" in capsys.readouterr().err


def test_a_misspelt_flag_is_answered_with_the_one_that_is_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--lisen", "127.0.0.1:0"])
    assert "there is no flag --lisen: did you mean --listen?" in capsys.readouterr().err


def test_help_teaches_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for part in ("examples:", "initclient fetch", "SIGTERM", "INITSERVE_BACKEND"):
        assert part in text
