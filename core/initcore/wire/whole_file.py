"""Small files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress


def write_whole(path: str | os.PathLike[str], contents: bytes) -> None:
    """Writes a file beside `path` and renames it over `path`.

    So no reader ever sees a part of it, and a failure leaves the old file. A link stays, and the
    file that it leads to is replaced. Pipes and devices take the contents as they are: nothing can
    be renamed over them.

    Raises:
        OSError: if the file cannot be written; it names `path`.
    """
    try:
        if _is_file_or_new(path):
            _replace(os.path.realpath(path), contents)
        else:
            with open(path, "wb") as file:
                file.write(contents)
    except OSError as error:
        # A write that fails names no file, and a rename names the file beside it.
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


def _is_file_or_new(path: str | os.PathLike[str]) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def _replace(final: str, contents: bytes) -> None:
    # Its name is short, so that every name that a file may have can be written.
    part = os.path.join(os.path.dirname(final), f".initserve-{secrets.token_hex(8)}.tmp")
    try:
        # "x" gives it the permissions of any new file.
        with open(part, "xb") as file:
            file.write(contents)
        os.replace(part, final)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
