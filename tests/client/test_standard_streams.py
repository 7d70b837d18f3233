"""Standard streams that are closed, and readers of data that leave before the end."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import initclient as ic
import pytest

# Larger than any pipe's buffer.
LARGE = ic.Plan({"h.0.c_proj.weight": ic.ones((1000, 1000))})


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    ic.dump_plan(LARGE, path)
    return shlex.quote(str(path))


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """What bash says of a command, in which `initclient` is that of this code."""
    program = f'initclient() {{ {shlex.quote(sys.executable)} -m initclient "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", program + command], capture_output=True, text=True, timeout=120, check=False
    )


def first_status(command: str) -> int:
    """The status of the first command of a pipe."""
    done = shell(f"{command}; echo ${{PIPESTATUS[0]}} >&2")
    *told, status = done.stderr.splitlines()
    assert told == []
    return int(status)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_file_that_is_cut_by_its_reader_is_no_success(
    plan: str, target: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    for source in ("local", target):
        fetch = f"initclient fetch {plan} -o - --target {source} -q"
        assert first_status(f"{fetch} | head -c 10 > /dev/null") == 141


def test_a_page_and_a_plan_that_are_cut_by_their_reader_are_no_success(
    plan: str, tmp_path: Path
) -> None:
    assert first_status(f"initclient plot {plan} -o - -q | true") == 141
    many = {f"h.{i}.attn.with.a.long.name.c_proj.weight": ic.zeros((2, 2)) for i in range(2000)}
    file = shlex.quote(str(ic.fetch_file(many, tmp_path / "x.safetensors", target="local")))
    assert first_status(f"initclient plan {file} --recipe gpt2 -q | true") == 141
    assert first_status(f"initclient plan {file} --recipe gpt2 -q -o - | true") == 141


def test_a_reader_of_text_may_leave_when_it_has_seen_enough(plan: str) -> None:
    assert first_status(f"initclient describe {plan} --json | head -c 10") == 0
    assert first_status("initclient recipes | head -n 1") == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_commands_work_with_closed_streams(plan: str, closed: str, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    done = shell(f"initclient describe {plan} {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    done = shell(f"initclient fetch {plan} -o {shlex.quote(str(out))} -q {closed}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert out.read_bytes() == ic.fetch_file(LARGE, tmp_path / "x", target="local").read_bytes()
    assert shell(f"initclient describe none.yaml {closed}").returncode == 2


def test_data_have_no_place_on_a_standard_output_that_is_closed(plan: str, tmp_path: Path) -> None:
    file = shlex.quote(str(ic.fetch_file(LARGE, tmp_path / "x.safetensors", target="local")))
    for command in (
        f"fetch {plan} -o - -q",
        f"plot {plan} -o - -q",
        f"plan {file} --recipe gpt2 -q",
    ):
        done = shell(f"initclient {command} >&-")
        assert done.returncode == 2
        told = done.stderr
        assert told == "initclient: error: standard output is closed; give a file to --out\n"


def test_a_plan_does_not_come_from_a_standard_input_that_is_closed() -> None:
    done = shell("initclient describe - <&-")
    assert done.returncode == 2
    assert done.stderr.startswith("initclient: error: PLAN is - (standard input), and standard inp")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_server_with_closed_streams_serves_and_stops_with_status_0(
    closed: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    redirected = "" if "2>" in closed else f"2> {shlex.quote(str(log))}"
    python = shlex.quote(sys.executable)
    command = f"exec {python} -m initserver --listen 127.0.0.1:0 --backend numpy"
    process = subprocess.Popen(["bash", "-c", f"{command} {closed} {redirected}"])
    try:
        if redirected:
            deadline = time.monotonic() + 60
            while "listening at" not in (log.read_text() if log.exists() else ""):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        else:
            # It has no place to say where it listens.
            time.sleep(8)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert not redirected or "Traceback" not in log.read_text()
