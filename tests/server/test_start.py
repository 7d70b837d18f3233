"""The start of `initserver`: wrong settings name their flag, and warnings are lines of the log."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from initserver import ServerConfig
from initserver.cli import main

COMMAND = [sys.executable, "-m", "initserver", "--listen", "127.0.0.1:0"]
Capture = pytest.CaptureFixture[str]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_of_checkpoints_that_is_none_names_the_flag_and_is_status_2(
    workers: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder, why in ((tmp_path / "nope", "does not exist"), (file, "is not a folder")):
        done = subprocess.run(
            [*COMMAND, "--backend", "numpy", "--workers", workers, "--checkpoints", folder],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"initserver: error: --checkpoints is '{folder}', which {why}; give")


def test_a_variable_for_the_checkpoints_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", str(tmp_path / "nope"))
    assert main(["--backend", "numpy", "--listen", "127.0.0.1:0"]) == 2
    assert "initserver: error: INITSERVE_CHECKPOINTS is '" in capsys.readouterr().err


def test_a_warning_of_python_is_a_line_of_the_log() -> None:
    with subprocess.Popen(
        [*COMMAND, "--backend", "numba"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        second = process.stderr.readline()
        process.terminate()
    assert first[8:].startswith(" warning: backend='numba' is deprecated and means 'native'")
    assert "listening at" in second


@pytest.mark.parametrize("flag", ["--hub-listen", "--metrics-listen"])
def test_one_address_for_two_ports_is_said_to_be_that(
    flag: str, tmp_path: Path, capsys: Capture
) -> None:
    address = free_address()
    arguments = ["--backend", "numpy", "--models", str(tmp_path), "--listen", address]
    assert main([*arguments, flag, address]) == 2
    assert capsys.readouterr().err == (
        f"initserver: error: {flag} is '{address}', the same address as --listen: give it another "
        "port\n"
    )


def test_the_ports_beside_the_service_differ_from_each_other_too(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"metrics_listen is '.*', the same address as --hub-listen"
    ):
        ServerConfig(models=str(tmp_path), hub_listen="localhost:1", metrics_listen="localhost:1")


def test_port_0_is_another_port_each_time(tmp_path: Path) -> None:
    any_port = "127.0.0.1:0"
    ServerConfig(
        listen=any_port, models=str(tmp_path), hub_listen=any_port, metrics_listen=any_port
    )


@pytest.mark.parametrize("command", ["initserver", "initclient"])
def test_a_name_of_an_earlier_release_is_taken_and_not_listed(command: str) -> None:
    arguments = [] if command == "initserver" else ["fetch"]
    done = subprocess.run(
        [sys.executable, "-m", command, *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "{auto,numpy,native,cupy}" in done.stdout
    assert "numba" not in done.stdout
