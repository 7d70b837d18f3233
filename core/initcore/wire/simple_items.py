"""Plan files whose items are all simple, as `format_plan` and most people write them.

Kinds of items are kept, so that the plans of a thousand like models are read in a second: one kind
has many tensors of one plan, and of the others. What does not have the form known here takes the
way of all other files (`repeated_items`, `plan_file`), and so does everything that is wrong:
errors come from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from initcore.wire.names import NAME, is_plain
from initcore.wire.plan_lines import fields_in_braces, fields_in_lines

_HEAD = re.compile(
    r"(?:seed: (0|[1-9][0-9]{0,19})\n)?(?:provenance:\n((?:  [A-Za-z].*\n)+))?tensors:\n( *)(?=-)"
)
_ANY_NAME = rf"{NAME}|'[^'\n]+'|\"[^\"\\\n]+\""
_ITEM = re.compile(rf"- (?:name: ({_ANY_NAME})\n((?:  .*\n)+)|\{{name: ({_ANY_NAME}), *(.*)\n)")

_EMPTY_LINES = re.compile(r"^ *(?:#.*)?\n", re.MULTILINE)
_WRAPPED = re.compile(r",\n +")

# Kinds that are kept, and characters of the longest.
_KEPT, _LONGEST = 4096, 512

_T = TypeVar("_T")


class SimpleItems(NamedTuple):
    """A text in the simple form.

    Attributes:
        seed: the plan's seed.
        provenance: what stands below `provenance:`.
        items: name and rest of each item; the rest is its other lines, or begins with a brace.
    """

    seed: int
    provenance: str
    items: list[tuple[str, str]]


def simple_items(text: str) -> SimpleItems | None:
    """The items of a text in the simple form; None for any other text.

    The rest of an item may still be anything: `fields_of` reads it.
    """
    # YAML refuses other characters, or takes them for the end of a line.
    if not text.replace("\n", "").isprintable():
        return None
    text = _tidy(text)
    head = _HEAD.match(text)
    if head is None:
        return None
    listed = _without_margin(text[head.start(3) :], head[3])
    if listed is None:
        return None
    items, at = [], 0
    while at < len(listed):
        item = _ITEM.match(listed, at)
        if item is None:
            return None
        name = item[1] or item[3]
        if name[0] in "'\"":
            name = name[1:-1]
        elif not is_plain(name):
            return None
        items.append((name, item[2] if item[1] else "{" + item[4]))
        at = item.end()
    seed = int(head[1] or 0)
    if len({name for name, _ in items}) < len(items) or seed >= 1 << 64:
        return None
    return SimpleItems(seed, head[2] or "", items)


def fields_of(rest: str) -> Mapping[str, Any] | None:
    """The fields in the rest of an item, or of provenance; None for another form."""
    return fields_in_braces(rest) if rest.startswith("{") else fields_in_lines(rest)


def kept(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """The function, which keeps its recent results for texts that are not long."""
    recent = lru_cache(_KEPT)(read)
    return lambda rest: recent(rest) if len(rest) <= _LONGEST else read(rest)


def _tidy(text: str) -> str:
    """The text without empty lines and whole lines of comment, and with long lists on one line.

    Text of several lines within quotes, or below `|`, is not the simple form before or after.
    """
    if "#" in text or "\n\n" in text or text.startswith("\n"):
        text = _EMPTY_LINES.sub("", text)
    if ",\n " in text and not any(mark in text for mark in "#'\""):
        text = _WRAPPED.sub(", ", text)
    return text if text.endswith("\n") else f"{text}\n"


def _without_margin(text: str, margin: str) -> str | None:
    """Lines without the margin that they all have; None if one does not have it."""
    if not margin:
        return text
    lines = text.splitlines(keepends=True)
    if not all(line.startswith(margin) for line in lines):
        return None
    return "".join([line[len(margin) :] for line in lines])
