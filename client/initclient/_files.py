"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of `path` when the body ends well.

    It is written beside `path`, forced to disk and renamed over it, so that no reader
    ever sees a part of it, and a failure leaves what was there before. A link is followed.

    Raises:
        OSError: if the file cannot be written, or `path` is something else than a file.
    """
    final = Path(os.path.realpath(path))
    if final.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the name of a file")
    if final.exists() and not final.is_file():
        raise OSError(f"{path} is not a regular file, which alone can be replaced")
    if not final.parent.is_dir():
        raise FileNotFoundError(f"the folder {final.parent} of {path} does not exist")
    part = final.with_name(f".{final.name[:200]}.{secrets.token_hex(4)}.part")
    # Not tempfile: its files are for the owner alone, and these follow the umask.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, final)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the new name as durable as the data; not every system lets one."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
