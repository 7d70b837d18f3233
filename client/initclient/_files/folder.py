"""An opened folder: its files by name, even if its path leads elsewhere meanwhile."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

# Linux opens a folder for its names alone, which takes no permission to list it.
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


class Folder:
    """A folder, opened once.

    Args:
        path: the folder.

    Attributes:
        path: the same.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, _FOLDER)

    def close(self) -> None:
        """Closes it; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def open(self, name: str, flags: int) -> int:
        """Opens a file; a link is not followed.

        Raises:
            OSError: if it cannot be opened; names the folder if its permissions are the cause.
        """
        # Not tempfile, whose files only the owner may read: these follow the umask.
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(name, flags, 0o666, dir_fd=self._descriptor)
        except OSError as error:
            raise type(error)(error.errno, os.strerror(error.errno or 0), self._at(name)) from error

    def status(self, name: str) -> os.stat_result | None:
        """The status of a file, or of a link itself; None if the name is free."""
        with suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        return None

    def has(self, name: str, descriptor: int) -> bool:
        """Whether a name leads to an open file itself."""
        found = self.status(name)
        return found is not None and os.path.samestat(found, os.fstat(descriptor))

    def unlink(self, name: str) -> None:
        """Removes a file or link, if there is one.

        Raises:
            OSError: if it cannot be removed, such as a folder.
        """
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise type(error)(error.errno, os.strerror(error.errno or 0), self._at(name)) from error

    def rename(self, name: str, other: str) -> None:
        """Gives a file another name, in one step; replaces the file of that name, if any.

        Raises:
            OSError: if it cannot be renamed.
        """
        # Not os.rename, which does the same here, so that one call names files everywhere.
        os.replace(name, other, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def sync(self) -> None:
        """Syncs new names to disk, so that they survive a power cut; not every system can."""
        with suppress(OSError):
            descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def check(self) -> None:
        """Makes sure that the folder's path still leads to it.

        Raises:
            OSError: ESTALE, if it was moved, removed or replaced.
        """
        with suppress(OSError):
            if os.path.samestat(os.stat(self.path), os.fstat(self._descriptor)):
                return
        text = "the folder was moved or replaced while this fetch wrote into it; fetch again"
        raise OSError(errno.ESTALE, text, str(self.path))

    def publish(self, descriptor: int, name: str, final: str) -> None:
        """Gives the file of a unique name its final one.

        Args:
            descriptor: the file, open.
            name: its name, which no other process uses.
            final: its final name.

        Raises:
            OSError: ESTALE, if another file has the name; nothing is changed then.
        """
        if not self.has(name, descriptor):
            raise stale(self.path / name)
        self.rename(name, final)

    def _at(self, name: str) -> str:
        return str(self.path / name)


def stale(path: Path) -> OSError:
    """The error for a file that another process or a person took from a fetch."""
    text = (
        "it was removed, replaced or cut while this fetch wrote it, and nothing was published; "
        "let only one process write to a path, and fetch again"
    )
    return OSError(errno.ESTALE, text, str(path))


def temporary_name(name: str) -> str:
    """A unique name for a temporary file."""
    # Names are limited in bytes, not in characters.
    short = os.fsencode(name)[:200].decode("utf-8", "ignore")
    return f".{short}.{secrets.token_hex(8)}.part"
