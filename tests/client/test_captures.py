"""Help, success and a typical mistake of every command, on terminals of 60, 80 and 120 columns.

`python -m tests.captures.terminal` writes the files anew; read the difference before the commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from initclient._commands import COMMANDS

from tests.captures.terminal import FOLDER, SCENES, WIDTHS, captures, screen


@pytest.fixture(scope="module", params=WIDTHS)
def seen(request: pytest.FixtureRequest) -> tuple[int, Mapping[str, str]]:
    return request.param, captures(request.param)


def test_the_commands_look_as_they_were_committed(seen: tuple[int, Mapping[str, str]]) -> None:
    width, found = seen
    written = {path.stem: path.read_text() for path in (FOLDER / str(width)).glob("*.txt")}
    assert dict(found) == written, "python -m tests.captures.terminal writes them anew"


def test_no_word_of_the_help_is_broken(seen: tuple[int, Mapping[str, str]]) -> None:
    """A line that fills the terminal to its edge would be a broken one."""
    width, found = seen
    for command, text in found.items():
        first = text.split("\n$ init")[0]
        assert "usage: init" in first, command
        # A URL, or a command's word, may be longer than the narrowest terminal.
        full = [line for line in first.splitlines() if len(line) == width]
        assert not full, (command, full)


def test_every_command_has_its_captures() -> None:
    modules = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    assert modules | {"initclient", "initserver"} == set(SCENES)
    for command, lines in SCENES.items():
        assert lines[0].endswith("--help"), command
        assert len(lines) > 1, command


def test_the_screen_knows_what_a_bar_writes() -> None:
    assert screen("a bar 10 %\ra bar 100 %\r\n\x1b[1A\x1b[2Kdone\r\n") == "done\n"
    assert not re.search("\x1b", screen("\x1b[?25lx\x1b[31my\x1b[0m\x1b[?25h"))
