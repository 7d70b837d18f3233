"""Numbers and foreign text in sentences."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TextIO


def counted(number: int, noun: str) -> str:
    """A number with its noun, as in "1 tensor" and "1,200 tensors".

    >>> counted(2, "tensor")
    '2 tensors'
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(nbytes: int) -> str:
    """A number of bytes with a unit, as in "1.5 MiB"."""
    if nbytes < 1024:
        return f"{nbytes} B"
    power = min((nbytes.bit_length() - 1) // 10, 5)
    return f"{nbytes / 1024**power:.1f} {'KMGTP'[power - 1]}iB"


def terminal_width(out: TextIO) -> int | None:
    """The columns of a terminal; None for a file or a pipe."""
    if not out.isatty():
        return None
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(out.fileno()).columns or None
    except OSError:
        return None


def fitted(text: str, out: TextIO) -> str:
    """A text whose lines are broken between words where `out` is a terminal that is narrower.

    Words stay whole, so that names and paths can be copied.
    """
    width = terminal_width(out)
    if width is None:
        return text
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.fill(
        line,
        max(width, 20),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


MAX_FOREIGN = 1000
"""Characters of a text of others that people see."""


def printable(text: str, limit: int = MAX_FOREIGN) -> str:
    """A text of others, such as a server or a file, for people to read: escaped and bounded.

    Control characters, line breaks, bidirectional controls and lone surrogates are escaped, so
    that they move no cursor, forge no line and hide nothing. A text longer than `limit` characters
    is cut and says its length.

    >>> print(printable("all right\\x1b[2J\\r"))
    all right\\x1b[2J\\r
    """
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else _escaped(c) for c in shown)
    return shown if len(text) <= limit else f"{shown}... ({len(text):,} characters)"


def printable_lines(text: str) -> str:
    """A text of several lines, each as `printable` gives it with a limit of 10,000 characters."""
    return "\n".join(printable(line, 10 * MAX_FOREIGN) for line in text.split("\n"))


def printable_texts(texts: Sequence[str], noun: str, most: int = 100) -> list[str]:
    """Texts of others, each as `printable` gives it, at most `most` of them.

    A last line counts the others, as in "900 more warnings are not shown".
    """
    shown = [printable(text) for text in texts[:most]]
    if len(texts) > most:
        shown.append(f"{counted(len(texts) - most, f'more {noun}')} are not shown")
    return shown


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
