"""The help of the commands, which fits the terminal, and a word for flags that are misspelt.

Not part of the room's face, since only the commands need argparse.
"""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap

_WIDEST = 96
# Lines that are indented by more are words beside an example.
_DEEPEST = 12
_COLUMNS = re.compile(r"(?<=\S) {3,}(?=\S)")


def unknown_argument(parser: argparse.ArgumentParser, word: str) -> str:
    """The sentence about an argument that a parser does not know, with the flag that is meant."""
    if not word.startswith("-"):
        return f"{word!r} is one argument too many"
    flag = word.partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    meant = difflib.get_close_matches(flag, known, n=1)
    hint = f": did you mean {meant[0]}?" if meant else f"; `{parser.prog} --help` lists the flags"
    return f"there is no flag {flag}{hint}"


class Help(argparse.RawDescriptionHelpFormatter):
    """Fills paragraphs, and keeps indented lines as they are where the terminal has room.

    In a narrow one, the words beside an example go below it, and a long command goes on in the
    next line behind a backslash, so that it can still be copied.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        width = min(width, _WIDEST)
        lines: list[str] = []
        paragraph: list[str] = []
        for line in [*text.splitlines(), ""]:
            if line and not line.startswith(" "):
                paragraph.append(line)
                if not line.endswith(":"):
                    continue
            if paragraph:
                lines += textwrap.wrap(
                    " ".join(paragraph), width, break_long_words=False, break_on_hyphens=False
                )
                paragraph = []
            if not line or line.startswith(" "):
                lines += _kept(line, width)
        return "\n".join(lines).rstrip("\n") + "\n"

    def add_argument(self, action: argparse.Action) -> None:
        """Leaves room for the names of commands, which are further in than flags."""
        super().add_argument(action)
        if action.help is not argparse.SUPPRESS:
            for inner in self._iter_indented_subactions(action):
                length = self._current_indent + len(self._format_action_invocation(inner))
                self._action_max_length = max(self._action_max_length, length)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """The flags, then their value once, as in "-o, --out FILE"."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def _kept(line: str, width: int) -> list[str]:
    """An indented line, in several if it is too long."""
    if len(line) <= width:
        return [line]
    lead = len(line) - len(line.lstrip(" "))
    if lead > _DEEPEST:
        # Words that stand beside the example in the line before.
        lead = 2
        example, beside = "", [line.strip()]
    else:
        example, *beside = _COLUMNS.split(line.rstrip(), maxsplit=1)
    indent = " " * (lead + 4)
    is_command = re.search(r"\binit(client|server) ", example) is not None
    end = " \\" if is_command else ""
    made = textwrap.wrap(
        example,
        max(width - len(end), 20),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    lines = [f"{one}{end}" for one in made[:-1]] + made[-1:]
    if beside:
        lines += textwrap.wrap(beside[0], width, initial_indent=indent, subsequent_indent=indent)
    return lines
