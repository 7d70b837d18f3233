"""Names in plan files that need no quotes."""

from __future__ import annotations

import re

NAME = r"(?:[A-Za-z_]|[0-9]+(?:\.[0-9]+)*\.[A-Za-z]{2})[A-Za-z0-9_./-]*"
"""The pattern of names that YAML reads as text without quotes, whatever follows them.

It has a few words that YAML does not read as text, such as `yes`; `is_plain` leaves them out. A
number may stand before a dot and two letters: `0.weight` is text, and `0.e-1` a number.
"""

_PLAIN = re.compile(NAME)
_OTHER = frozenset({"yes", "no", "true", "false", "on", "off", "null"})


def is_plain(name: str) -> bool:
    """Whether YAML reads a name without quotes as this text."""
    return _PLAIN.fullmatch(name) is not None and name.lower() not in _OTHER
