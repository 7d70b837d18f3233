"""Ctrl-C is one line at any moment: while modules are imported, during a call, and at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONE_LINE = "initclient: error: interrupted\n"

# As the console script: the handler is in place, then everything is imported and run.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from initserve import entry
entry.with_one_line({name!r})
sys.argv = [{name!r}, *{arguments!r}]
print("begun", flush=True)
sys.exit(entry.{name}())
"""


def started(name: str, *arguments: str) -> subprocess.Popen[str]:
    """A command as a process, at its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(name=name, arguments=arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def script(text: str) -> subprocess.Popen[str]:
    text = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + text
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_console_scripts_begin_there() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {name: f"initserve.entry:{name}" for name in ("initclient", "initserver")}


def test_nothing_is_imported_before() -> None:
    code = "import sys; before = {*sys.modules}; import initserve.entry; "
    code += "print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in done.stdout.split()}
    assert not names & {"initcore", "initclient", "initserver", "numpy", "grpc", "argparse"}


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.1, 0.2, 0.4, 0.8])
def test_an_interrupt_of_the_client_is_one_line(seconds: float) -> None:
    # It waits for its standard input, if it comes so far.
    process = started("initclient", "describe", "-")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    # Not communicate, which would close its standard input.
    assert process.wait(60) == 128 + signal.SIGINT
    out, error = process.communicate()
    assert (out, error) == ("", ONE_LINE)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_an_interrupt_of_a_server_that_starts_is_one_line(seconds: float) -> None:
    process = started("initserver", "--listen", "127.0.0.1:0", "--backend", "numpy")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    if process.returncode:
        assert process.returncode == 128 + signal.SIGINT
        assert error == "initserver: error: interrupted\n"
    else:  # it was ready
        assert "listening at" in error


SLOW_IMPORT = """
import importlib.abc, importlib.machinery, sys, time
from initclient._commands.terminal import exit_on_signals

class Slow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    # As modules in C do: an exception in the middle becomes another one.
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "slow" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        print("importing", flush=True)
        try:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                time.sleep(0.01)
        except BaseException:
            raise ImportError("the module failed to import")

sys.meta_path.insert(0, Slow())
with exit_on_signals():
    try:
        import slow
        print("imported", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interrupt_waits_for_the_end_of_an_import() -> None:
    process = script(SLOW_IMPORT)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    # At the first bytecode after it, or a moment later.
    assert out in ("interrupted\n", "imported\ninterrupted\n")


BROKEN = """
from initclient._commands.terminal import exit_on_signals

class Broken:
    def __del__(self):
        raise SystemExit(3)

with exit_on_signals():
    Broken()
    print("after it")
"""


def test_an_exit_that_no_signal_asked_for_is_shown_where_python_cannot_raise_it() -> None:
    process = script(BROKEN)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "after it\n")
    assert "SystemExit: 3" in error


def test_the_second_interrupt_ends_the_process_at_once() -> None:
    process = script(
        """
import time
from initclient._commands.terminal import exit_on_signals

with exit_on_signals():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("cleaning up", flush=True)
        time.sleep(60)
"""
    )
    assert process.stdout is not None
    for line in ("begun\n", "cleaning up\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (128 + signal.SIGINT, ONE_LINE)


def test_a_kept_partial_file_is_in_the_same_line(target: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"tensors": [{"name": "w", "shape": [100, 1048576], "scheme": "NORMAL"}]}')
    out = tmp_path / "x"
    process = started("initclient", "fetch", str(plan), "--out", str(out), "--target", target)
    journal = tmp_path / "x.initserve.journal"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert error.startswith("initclient: error: interrupted. ")
    assert "The same fetch resumes there" in error
    assert error.count("\n") == 1


def test_an_interrupt_after_the_command_changes_neither_its_status_nor_its_output() -> None:
    text = COMMAND.format(name="initclient", arguments=["recipes"])
    text = text.replace("sys.exit(entry.initclient())", "entry.initclient()")
    text += "import os; os.kill(os.getpid(), signal.SIGINT); print('not here')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "xavier" in done.stdout
    assert "not here" not in done.stdout


def test_a_background_job_stays_deaf_to_it(tmp_path: Path) -> None:
    """Shells start jobs with SIGINT ignored, so that Ctrl-C means what is in the foreground."""
    text = COMMAND.format(name="initclient", arguments=["--version"])
    text = text.replace("signal.default_int_handler", "signal.SIG_IGN")
    text = text.replace("sys.exit(", "import os; os.kill(os.getpid(), signal.SIGINT)\nsys.exit(")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stream v1" in done.stdout
