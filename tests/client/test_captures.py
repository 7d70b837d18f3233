"""Help, success and a typical mistake of every command, on terminals of 60, 80 and 120 columns.

`python -m tests.captures.terminal` writes the files anew; read the difference before the commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import compress

import pytest
from initclient._commands import COMMANDS

from tests.captures.terminal import FOLDER, SCENES, WIDTHS, captures, screen


@pytest.fixture(scope="module", params=WIDTHS)
def seen(request: pytest.FixtureRequest) -> tuple[int, Mapping[str, str]]:
    return request.param, captures(request.param)


def committed(width: int) -> dict[str, list[str]]:
    """The committed captures of each command, one text a call."""
    return {
        path.stem: re.split(r"^(?=\$ init)", path.read_text(), flags=re.MULTILINE)[1:]
        for path in (FOLDER / str(width)).glob("*.txt")
    }


def lines(text: str) -> list[str]:
    return text.rstrip("\n").split("\n")


def test_the_commands_look_as_they_were_committed(seen: tuple[int, Mapping[str, str]]) -> None:
    width, found = seen
    written = {
        command: "".join(compress(parts, SCENES[command].here()))
        for command, parts in committed(width).items()
    }
    assert {name: lines(text) for name, text in found.items()} == {
        name: lines(text) for name, text in written.items()
    }, "python -m tests.captures.terminal writes them anew"


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
    assert all(set(committed(width)) == set(SCENES) for width in WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", SCENES)
def test_every_command_shows_its_help_a_success_and_a_mistake(command: str, width: int) -> None:
    scenes = SCENES[command]
    parts = dict(zip(scenes.all(), committed(width)[command], strict=True))
    failed = {call for call, part in parts.items() if re.search(r"^\[exit status \d", part, re.M)}
    assert scenes.help.endswith("--help")
    assert "usage: init" in parts[scenes.help]
    assert scenes.mistakes
    assert failed == {*scenes.mistakes}
    succeeded = [*scenes.successes, *([scenes.runs] if scenes.runs else ())]
    assert succeeded
    # A success says something, below the line with the command.
    assert all(len(lines(parts[call])) > 1 for call in succeeded)


def test_the_screen_knows_what_a_bar_writes() -> None:
    assert screen("a bar 10 %\ra bar 100 %\r\n\x1b[1A\x1b[2Kdone\r\n") == "done\n"
    assert not re.search("\x1b", screen("\x1b[?25lx\x1b[31my\x1b[0m\x1b[?25h"))
