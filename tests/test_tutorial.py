"""The tutorial runs as it is written: its files, its commands, and what they print."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.processes import running

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
SERVER = "127.0.0.1:50051"

# The programs of this environment, whatever the path says.
PROGRAMS = {
    "python": [sys.executable],
    "initclient": [sys.executable, "-m", "initclient"],
}


def steps() -> list[tuple[str, str, str]]:
    """Each block of the page: its language, the name of its file, and its text."""
    found = re.findall(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```", PAGE, re.S | re.M)
    assert len(found) == PAGE.count("\n```") / 2
    return found


def conversation(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with what the page shows below it."""
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)


def shown(text: str) -> str:
    """A pattern for output: three dots stand for any text."""
    return re.escape(text.strip()).replace(r"\.\.\.", ".*")


def test_the_tutorial_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("INITSERVE_")]:
        monkeypatch.delenv(name)
    paths = [str(ROOT / name) for name in ("protos", "core", "server", "client")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("COLUMNS", "110")
    ran = []
    with running() as server:
        for language, title, text in steps():
            if language == "python":
                (tmp_path / title).write_text(text)
                continue
            for command, output in conversation(text):
                program, *arguments = shlex.split(command.replace(SERVER, server.address))
                if program in ("pip", "initserver"):
                    continue  # this environment has it; the server is there
                done = subprocess.run(
                    [*PROGRAMS.get(program, [shutil.which(program) or program]), *arguments],
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                assert re.fullmatch(shown(output), done.stdout.strip(), re.S), (
                    f"$ {command}\n{done.stdout}"
                )
                # `diff` says with its status that the plans differ.
                wanted = 1 if "error:" in output or "diff" in arguments else 0
                assert done.returncode == wanted, command
                ran.append(program)
    assert ran.count("initclient") == 6
    assert ran.count("python") == 4
    assert "cmp" in ran


def test_the_page_keeps_its_promise() -> None:
    """Ten minutes: seven steps, and programs that fit on a screen."""
    assert len(re.findall(r"^## \d\. ", PAGE, re.M)) == 7
    assert all(text.count("\n") <= 20 for language, _, text in steps() if language == "python")
