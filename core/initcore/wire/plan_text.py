"""The text of a plan file as plain data, and the line of each of its values.

YAML 1.1 reads some scalars as another thing than the eye does: `0x10`, `010`, `1_000` and `1:30`
are integers, `yes` and `off` are truth values, `2024-01-01` is a date, and nothing at all is null.
They come out as `Misread`, so that a field can refuse them.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Self

from initcore.errors import PlanError, Violation

NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
"""A decimal number as Python writes it; `0123` is one only with a point or an exponent."""

_OCTAL = re.compile(r"[-+]?0[0-9]+")
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")


@dataclass(frozen=True)
class Misread:
    """A scalar that YAML 1.1 reads as another thing than the eye does.

    Attributes:
        text: the scalar as written.
        value: the value that YAML reads; None for a blank, and for a date.
        kind: "number", "truth value", "date" or "blank".
    """

    text: str
    value: Any
    kind: str


class Unquoted(str):
    """Text without quotes that is a decimal number, though YAML 1.1 calls it text: `1e-3`."""

    __slots__ = ()


class Spelled(float):
    """A real number that Python writes otherwise than the file does: `1.10`, `.inf`.

    Attributes:
        text: the number as written, for a name that wants quotes.
    """

    text: str

    def __new__(cls, value: float, text: str) -> Self:
        """The number with its text."""
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text


def as_spelled(value: float, text: str) -> float:
    """A real number, as `Spelled` if Python writes it otherwise than the text."""
    return value if str(value) == text else Spelled(value, text)


def load_yaml(text: str) -> Any:
    """The plain data in YAML text.

    Raises:
        yaml.YAMLError, ValueError: if it is not YAML, or a mapping has a key twice.
    """
    return _loaded(text, _loader())


def read_text(text: str, source: str) -> tuple[Any, bool]:
    """The data of a plan file, with `Misread`, `Unquoted` and `Spelled` where the text is YAML.

    Args:
        text: YAML or JSON.
        source: names it in errors.

    Returns:
        (data, whether the text is JSON).

    Raises:
        PlanError: if it is neither, with the line.
    """
    import yaml

    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_once), True
        except (ValueError, RecursionError):
            # Flow mappings of YAML start with a brace too.
            pass
    try:
        return _loaded(text, _careful_loader()), False
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = f"{source} is neither YAML nor JSON: {_problem(error, text)}"
        mark = getattr(error, "problem_mark", None) or getattr(error, "mark", None)
        line = None if mark is None else mark.line + 1
        raise PlanError([Violation("", "file", message, line=line)]) from error


def _problem(error: Exception, source: str) -> str:
    """What is wrong, in one line: the library's own text repeats the line, in three lines."""
    problem, context = getattr(error, "problem", None), getattr(error, "context", None)
    if not problem:
        return str(error)
    mark, begin = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    text = problem if mark is None else f"{problem} at column {mark.column + 1}"
    if mark is not None and _character(source, mark) == "\t":
        text += ": a tab, where YAML takes only spaces"
    if context:
        text += f", {context}"
        if begin is not None and mark is not None and begin.line != mark.line:
            text += f" that begins on line {begin.line + 1}"
    return text


def _character(text: str, mark: Any) -> str:
    """The character at a place of the text; "" past its end."""
    lines = text.splitlines()
    return lines[mark.line][mark.column :][:1] if mark.line < len(lines) else ""


def read_scalar(text: str) -> Any:
    """The value of a scalar without quotes, as `read_text` gives it.

    Args:
        text: the scalar, without spaces, colons, brackets and other characters that mean something.

    Raises:
        ValueError: if it is no scalar, or not what its form says.
    """
    import yaml

    try:
        return _loaded(text, _careful_loader())
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} is no scalar") from error


class Lines:
    """The lines of a plan file's values. The text is parsed again at the first question."""

    def __init__(self, text: str) -> None:
        self._text = text

    def of(self, path: str) -> int | None:
        """The line, counted from 1, of the value at a path such as `tensors[2].shape`.

        That of the innermost mapping or list on the path, if the value itself is missing; None if
        the text is no YAML.
        """
        import yaml

        node = self._tree
        if node is None:
            return None
        line = node.start_mark.line
        for key, number in _STEP.findall(path):
            found = None
            if number and isinstance(node, yaml.SequenceNode) and int(number) < len(node.value):
                found = node.value[int(number)]
                line = found.start_mark.line
            elif key and isinstance(node, yaml.MappingNode):
                for name, value in node.value:
                    if name.value == key:
                        found, line = value, name.start_mark.line
            if found is None:
                break
            node = found
        return int(line) + 1

    @cached_property
    def _tree(self) -> Any:
        import yaml

        # YAML has no tabs between tokens and no surrogates; JSON may. Neither moves a line.
        plain = re.sub(r"\\u[0-9a-fA-F]{4}", "?", self._text.replace("\t", " "))
        try:
            return yaml.compose(plain, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, ValueError, RecursionError):
            return None


class _TwiceError(ValueError):
    """A mapping has a key twice; `mark` is the place of the second."""

    def __init__(self, key: str, mark: Any) -> None:
        super().__init__(f"the key {key!r} is there twice")
        self.mark = mark


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, without keys that are there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


# Brackets within brackets, and spaces and dashes before a line. Plans have some dozens. PyYAML's
# compiled parser calls itself for each level; releases up to 6.0.2 end the process at some
# thousands.
_MOST_BRACKETS, _MOST_MARGIN = 500, 2000

_BRACKET = re.compile(r"[\[\]{}]")
_DEEP_MARGIN = re.compile(rf"^[ ?-]{{{_MOST_MARGIN}}}", re.MULTILINE)


def _refuse_deep(text: str) -> None:
    """Refuses text that is nested more deeply than any plan.

    Raises:
        ValueError: if it is.
    """
    deep = _DEEP_MARGIN.search(text)
    if deep is not None:
        raise ValueError(f"a line begins with {_MOST_MARGIN} spaces or dashes")
    depth = 0
    # Brackets in quotes and comments count too: wrong for hundreds of them, which no plan has.
    for bracket in _BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        if depth > _MOST_BRACKETS:
            raise ValueError(f"{_MOST_BRACKETS} brackets are open at once")


def _loaded(text: str, loader: Any) -> Any:
    import yaml

    _refuse_deep(text)
    try:
        return yaml.load(text, Loader=loader)
    except (AttributeError, KeyError) as error:
        # The loader raises these for `!!bool maybe` and `!!timestamp soon`.
        raise ValueError("a value is not what its tag says") from error


@cache
def _loader() -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """YAML's plain data; a mapping with a key twice is refused."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            # Scalar keys only: a list or a mapping as a key is refused below.
            keys = [key for key, _ in node.value if isinstance(key.value, str)]
            seen = set()
            for key in keys:
                if key.value in seen:
                    raise _TwiceError(key.value, key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


@cache
def _careful_loader() -> Any:
    class Loader(_loader()):  # type: ignore[misc]
        """The same, with `Misread`, `Unquoted` and `Spelled` where they belong."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            found = super().construct_mapping(node, deep)
            return {k.text if isinstance(k, Misread) else k: v for k, v in found.items()}

    for tag, construct in {
        "int": _integer,
        "float": _float,
        "bool": _truth,
        "null": _null,
        "timestamp": _date,
        "str": _string,
    }.items():
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", construct)
    return Loader


def _integer(loader: Any, node: Any) -> Any:
    value = loader.construct_yaml_int(node)
    right = node.value.isascii() and not _OCTAL.fullmatch(node.value)
    if right and NUMBER.fullmatch(node.value):
        return value
    return Misread(node.value, value, "number")


def _float(loader: Any, node: Any) -> Any:
    value = loader.construct_yaml_float(node)
    if NUMBER.fullmatch(node.value) or not math.isfinite(value):
        return as_spelled(value, node.value)
    return Misread(node.value, value, "number")


def _truth(loader: Any, node: Any) -> Any:
    value = loader.construct_yaml_bool(node)
    if node.value.lower() in ("true", "false"):
        return value
    return Misread(node.value, value, "truth value")


def _null(loader: Any, node: Any) -> Any:
    loader.construct_yaml_null(node)
    return Misread("", None, "blank") if not node.value else None


def _date(loader: Any, node: Any) -> Any:
    # A date of no calendar is a ValueError: refused like any other date.
    with suppress(ValueError):
        loader.construct_yaml_timestamp(node)
    return Misread(node.value, None, "date")


def _string(loader: Any, node: Any) -> Any:
    value = loader.construct_yaml_str(node)
    if node.style or not NUMBER.fullmatch(value) or _OCTAL.fullmatch(value):
        return value
    # `!!str 12` is text because its tag says so.
    implied = loader.resolve(type(node), value, (True, False))
    return Unquoted(value) if implied == node.tag else value
