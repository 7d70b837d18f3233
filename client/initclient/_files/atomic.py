"""Files that appear whole or not at all, and whose disk space is allocated before the work."""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from initclient._files.folder import Folder, temporary_name
from initclient._machine import os

# Errors of file systems that cannot allocate space in advance.
_NO_PREALLOCATION = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def replacing(path: str | os.PathLike[str], folder: Folder | None = None) -> Iterator[BinaryIO]:
    """A new file to write, which replaces `path` if the body ends without an error.

    It is written beside `path`, synced to disk and renamed over `path`, so that no reader ever
    sees a part of it, and a failure leaves the old file. Links are followed.

    Args:
        path: the file.
        folder: its folder, if the caller has opened it; links are not followed then.

    Raises:
        OSError: if the file cannot be written, or `path` is not a regular file; it names `path`.
    """
    final = real_file(path) if folder is None else Path(path)
    where = Folder(final.parent) if folder is None else folder
    try:
        part = temporary_name(final.name)
        descriptor = create(where, part, final)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                where.publish(file.fileno(), part, final.name)
        except BaseException as error:
            with suppress(OSError):
                where.unlink(part)
            if isinstance(error, OSError) and error.errno and error.filename is None:
                # A write knows no name: a full disk would be an error without a place.
                error.filename = str(path)
            raise
        where.sync()
    finally:
        if folder is None:
            where.close()


def real_file(path: str | os.PathLike[str]) -> Path:
    """The path that a file is written to, links followed.

    Raises:
        OSError: if there is anything but a regular file, or no folder.
    """
    text = str(path)
    if not text:
        raise FileNotFoundError("the name of the file is empty; give the name of a file")
    if text.endswith(("/", "\\") if sys.platform == "win32" else "/"):
        raise IsADirectoryError(
            f"{text} ends in {text[-1]}, as the name of a folder does; give the name of a file"
        )
    final = Path(os.path.realpath(path))
    if final.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the name of a file")
    if final.exists() and not final.is_file():
        raise OSError(f"{path} is not a regular file, which alone can be replaced")
    if not final.parent.is_dir():
        raise FileNotFoundError(f"the folder {final.parent} of {path} does not exist")
    return final


def create(folder: Folder, name: str, final: Path) -> int:
    """Creates a file beside `final`, open for reading and writing.

    Raises:
        OSError: if it cannot be created, or the name is taken; names the folder if its
            permissions are the cause.
    """
    return opened(folder, name, final, os.O_CREAT | os.O_EXCL)


def opened(folder: Folder, name: str, final: Path, flags: int) -> int:
    """Opens a file beside `final` for reading and writing; links are not followed.

    Raises:
        OSError: if it cannot be opened; names the folder if its permissions are the cause.
    """
    try:
        return folder.open(name, os.O_RDWR | flags)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        why = f"{final.name} cannot be written in this folder: {os.strerror(error.errno)}"
        raise type(error)(error.errno, why, str(folder.path)) from error


def require_space(folder: Path, size: int, what: str) -> None:
    """Refuses to start if the disk is too full.

    Args:
        folder: a folder on the disk.
        size: the needed bytes.
        what: the name of the file, for the error.

    Raises:
        OSError: ENOSPC, with the needed and the free bytes.
    """
    found = os.statvfs(folder)
    free = found.f_frsize * found.f_bavail
    if size > free:
        text = f"no space for {what}: it needs {size} bytes more, of which {free} are free"
        raise OSError(errno.ENOSPC, text, str(folder))


def preallocate(descriptor: int, size: int, final: Path) -> None:
    """Gives a file its size, and allocates its space if the file system can.

    Raises:
        OSError: if there is no space, or a limit on the size of files is lower.
    """
    try:
        if size and not _allocate(descriptor, size):
            os.ftruncate(descriptor, size)
    except OSError as error:
        text = f"cannot allocate {size} bytes: {os.strerror(error.errno or 0)}"
        raise OSError(error.errno, text, str(final)) from error


def _allocate(descriptor: int, size: int) -> bool:
    """Whether the file system allocated the space.

    Not os.posix_fallocate: if the file system cannot allocate, the C library writes into every
    block, which takes as long as writing the file.
    """
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(descriptor), ctypes.c_int(0), ctypes.c_int64(0), ctypes.c_int64(size))
    while libc.fallocate(*arguments) != 0:
        number = ctypes.get_errno()
        if number in _NO_PREALLOCATION:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True
