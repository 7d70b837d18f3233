"""Credentials' files that rotate: the last good contents stay until the next good ones come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from initcore.machine import SETTLED, half_written, settled

from initclient._exceptions import AuthenticationError

T = TypeVar("T")

PathLike = str | os.PathLike[str]


class _Good:
    """The last good contents of some files, and the value that they made."""

    def __init__(self, contents: Sequence[bytes], value: Any) -> None:
        self.contents = contents
        self.value = value
        self.next: Sequence[bytes] | None = None
        self.seen = 0.0


# By kind and paths. Each entry is replaced in one step, so that no lock is needed, which a fork
# might copy while it is held.
_known: dict[tuple[str, ...], _Good] = {}


def last_good(
    kinds: Sequence[str], paths: Sequence[PathLike], load: Callable[[Sequence[bytes]], T]
) -> T:
    """The value of some files: of their present contents, or of the last good ones.

    Files that rotate are missing, unreadable or half-written for a moment. A value that this
    process has made from them before stays in use until they are good again.

    Args:
        kinds: the kind of each file, for errors.
        paths: the files.
        load: makes the value from their contents; raises AuthenticationError.

    Raises:
        AuthenticationError: if the files cannot be used, and never could in this process.
    """
    key = (*kinds, *(os.path.abspath(path) for path in paths))
    good = _known.get(key)
    try:
        contents = [read(path, kind) for path, kind in zip(paths, kinds, strict=True)]
        if good is not None and contents == good.contents:
            good.next = None
            return good.value  # type: ignore[no-any-return]
        value = load(contents)
    except AuthenticationError:
        if good is None:
            raise
        return good.value  # type: ignore[no-any-return]
    if good is not None and _may_be_incomplete(good, contents, paths):
        return good.value  # type: ignore[no-any-return]
    _known[key] = _Good(contents, value)
    return value


def read(path: PathLike, what: str) -> bytes:
    """A file's bytes.

    Raises:
        AuthenticationError: if it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AuthenticationError(
            f"cannot read the {what} file {os.fspath(path)}: {error.strerror or error}"
        ) from error


def _may_be_incomplete(good: _Good, contents: Sequence[bytes], paths: Sequence[PathLike]) -> bool:
    if not half_written(good.contents, contents):
        return False
    now = time.monotonic()
    if good.next != contents:
        good.next, good.seen = contents, now
    if now - good.seen >= SETTLED:
        return False
    try:
        return not settled(paths)
    except OSError:
        return True
