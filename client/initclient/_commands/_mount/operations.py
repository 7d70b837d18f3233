"""The calls of the kernel on a mounted folder, answered from its tree. Read-only."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable

from initclient._commands._mount.tree import File, Tree

_BLOCK = 4096


class Operations:
    """Answers calls by path, as mfusepy makes them; any number of threads at once.

    Args:
        tree: the folder.
        ready: called once, when the kernel has the folder.
        report: called with the text of a failed read, once for equal texts in a row.
    """

    use_ns = True

    def __init__(
        self, tree: Tree, ready: Callable[[], None], report: Callable[[str], None]
    ) -> None:
        self._tree = tree
        self._ready = ready
        self._report = report
        self._reported = ""
        self._lock = threading.Lock()
        self._time = time.time_ns()
        self._owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}

    def init(self, path: str) -> None:
        """The kernel has the folder."""
        self._ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """The status of a file or folder."""
        name = path[1:]
        if not name or name in self._tree.folders:
            return self._status(stat.S_IFDIR | 0o555, 2, 0)
        return self._status(stat.S_IFREG | 0o444, 1, self._file(path).size)

    def readdir(self, path: str, fh: int) -> list[str]:
        """The names in a folder."""
        if path != "/" and path[1:] not in self._tree.folders:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return [".", "..", *self._tree.names(path[1:])]

    def open(self, path: str, flags: int) -> int:
        """Opens a file to read."""
        self._file(path)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes of a file; an input/output error if its values cannot be had now."""
        file = self._file(path)
        try:
            content = file.read(offset, size)
        except Exception as error:
            self._failed(f"cannot read {path[1:]}: {error}")
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
        self._reported = ""
        return content

    def statfs(self, path: str) -> dict[str, int]:
        """The size of all files, for `df`; nothing is free."""
        blocks = -(-self._tree.size // _BLOCK)
        return {"f_bsize": _BLOCK, "f_frsize": _BLOCK, "f_blocks": blocks, "f_namemax": 255}

    def _file(self, path: str) -> File:
        file = self._tree.files.get(path[1:])
        if file is None:
            is_folder = path == "/" or path[1:] in self._tree.folders
            code = errno.EISDIR if is_folder else errno.ENOENT
            raise OSError(code, os.strerror(code))
        return file

    def _status(self, mode: int, links: int, size: int) -> dict[str, int]:
        times = {"st_mtime": self._time, "st_ctime": self._time, "st_atime": self._time}
        # In units of 512 bytes.
        space = {"st_size": size, "st_blocks": -(-size // 512)}
        return {"st_mode": mode, "st_nlink": links, **self._owner, **space, **times}

    def _failed(self, text: str) -> None:
        # The kernel asks again for each part of a file: one line is enough.
        with self._lock:
            if text == self._reported:
                return
            self._reported = text
        self._report(text)
