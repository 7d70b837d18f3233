"""The fields of one item of a plan file, read without the YAML library where they are simple.

Most items are lines of `key: value`, as `format_plan` writes them, or one line in braces, as people
do. The YAML library takes a millisecond and more for twenty of them, and a server of a thousand
models reads a thousand such files when it starts. What is read here is exactly what the library
reads: scalars go through it, one by one, and are kept, and everything that does not have the form
known here is None, for the library to read or to refuse.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from initcore.wire.names import is_plain
from initcore.wire.plan_text import as_spelled, read_scalar

_KEY = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_PAIR = re.compile(rf"({_KEY}):(?: +([^ ].*))?")
_FLOW_KEY = re.compile(rf"({_KEY}): +")
_DASH = re.compile(r"( *)- ")
_OPENING = re.compile(r"[\[{] *")
# A comma, or the place before a bracket that closes.
_SEPARATOR = re.compile(r" *(?:, *|(?=[\]}]))")
_END = re.compile(r" *(?: #.*)?")

# Text without quotes that begins as no indicator of YAML, and has no space, colon or bracket.
_SCALAR = re.compile(r"(?:[A-Za-z0-9_]|[-+.][0-9])[A-Za-z0-9_./+-]*")
_QUOTED = re.compile("'([^'\n]*)'|\"([^\"\\\\\n]*)\"")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"-?[0-9]+\.[0-9]+(?:e[-+][0-9]+)?")
# A SHA-256, say: with one of these letters it is no number.
_HEXADECIMAL = re.compile(r"[0-9be]*[acdf][0-9a-f]*")

# Scalars that are kept, and characters of the longest one that is read here.
_KEPT_SCALARS, _LONGEST_SCALAR = 4096, 64

# Brackets within brackets, and spaces before a line, at most.
_DEEPEST, _WIDEST_MARGIN = 8, 64


class _OtherFormError(Exception):
    """The text does not have the form that is read here."""


def fields_in_lines(text: str) -> dict[str, Any] | None:
    """The fields in lines of `key: value`, each two spaces from the margin; None for other text.

    Args:
        text: the lines, of printable characters.
    """
    lines = [line for line in text.split("\n") if not _says_nothing(line)]
    try:
        found, end = _mapping(lines, 0, 2)
    except _OtherFormError:
        return None
    return found if end == len(lines) else None


def fields_in_braces(text: str) -> dict[str, Any] | None:
    """The fields in one line, `{key: value, ...}`; None for other text.

    Args:
        text: the line, of printable characters.
    """
    try:
        found = _value(text)
    except _OtherFormError:
        return None
    return found if isinstance(found, dict) else None


def _says_nothing(line: str) -> bool:
    """Whether a line is blank, or a comment."""
    text = line.lstrip(" ")
    return not text or text.startswith("#")


def _mapping(lines: list[str], at: int, indent: int) -> tuple[dict[str, Any], int]:
    """The mapping that begins at a line, and the number of the line after it."""
    if indent > _WIDEST_MARGIN:
        raise _OtherFormError
    found: dict[str, Any] = {}
    margin = " " * indent
    while at < len(lines) and lines[at].startswith(margin) and lines[at][indent] not in " -":
        pair = _PAIR.fullmatch(lines[at], indent)
        if pair is None:
            raise _OtherFormError
        key = _new_key(pair[1], found)
        at += 1
        if pair[2] is None:
            found[key], at = _list(lines, at, indent)
        else:
            found[key] = _value(pair[2])
    if not found:
        raise _OtherFormError
    return found, at


def _list(lines: list[str], at: int, indent: int) -> tuple[list[Any], int]:
    """The list that begins at a line below a key, and the number of the line after it."""
    dash = None if at == len(lines) else _DASH.match(lines[at])
    if dash is None or len(dash[1]) not in (indent, indent + 2):
        raise _OtherFormError
    found = []
    inner = len(dash[0])
    while at < len(lines) and lines[at].startswith(dash[0]):
        if _PAIR.fullmatch(lines[at], inner):
            # The mapping's first line stands behind the dash.
            lines[at] = " " * inner + lines[at][inner:]
            value, at = _mapping(lines, at, inner)
            found.append(value)
        else:
            found.append(_value(lines[at][inner:]))
            at += 1
    return found, at


def _value(text: str) -> Any:
    """The value in a line, of which nothing but a comment is left."""
    value, at = _flow(text, 0, 0)
    if _END.fullmatch(text, at) is None:
        raise _OtherFormError
    return value


def _flow(text: str, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at a place of a line, and the place after it."""
    first = text[at : at + 1]
    if first == "[":
        return _flow_list(text, at, depth)
    if first == "{":
        return _flow_mapping(text, at, depth)
    quoted = _QUOTED.match(text, at)
    if quoted:
        return quoted[quoted.lastindex or 0], quoted.end()
    scalar = _SCALAR.match(text, at)
    if scalar is None:
        raise _OtherFormError
    return _scalar(scalar[0]), scalar.end()


def _flow_list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _opened(text, at, depth)
    while not text.startswith("]", at):
        value, at = _flow(text, at, depth + 1)
        found.append(value)
        at = _after(_SEPARATOR, text, at)
    return found, at + 1


def _flow_mapping(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _opened(text, at, depth)
    while not text.startswith("}", at):
        key = _FLOW_KEY.match(text, at)
        if key is None:
            raise _OtherFormError
        name = _new_key(key[1], found)
        found[name], at = _flow(text, key.end(), depth + 1)
        at = _after(_SEPARATOR, text, at)
    return found, at + 1


def _opened(text: str, at: int, depth: int) -> int:
    """The place after a bracket that opens."""
    if depth > _DEEPEST:
        raise _OtherFormError
    return _after(_OPENING, text, at)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    if found is None:
        raise _OtherFormError
    return found.end()


def _new_key(key: str, found: dict[str, Any]) -> str:
    """A key that the mapping does not have yet, and that is text."""
    if key in found or not is_plain(key):
        raise _OtherFormError
    return key


def _scalar(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return as_spelled(float(text), text)
    if len(text) > _LONGEST_SCALAR:
        raise _OtherFormError
    if _HEXADECIMAL.fullmatch(text):
        return text
    return _kept_scalar(text)


@lru_cache(_KEPT_SCALARS)
def _kept_scalar(text: str) -> Any:
    try:
        return read_scalar(text)
    except ValueError:
        raise _OtherFormError from None
