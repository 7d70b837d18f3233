"""A value made from files, and made again when they are replaced or rewritten."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_LOG = logging.getLogger("initserver")

# Clocks of file systems are coarse: a file that changed this recently may change again within
# the same tick, so until then contents are compared, not only times.
_COARSE_NS = 2_000_000_000


class WatchedFiles(Generic[T]):
    """The value of some files, always current.

    A check costs a few system calls if nothing has changed. If the files cannot be read, or
    `load` refuses them, the last valid value stays in use and the log says why.

    Args:
        name: names the value in the log.
        paths: where they are. Links are followed, so the swap of a mounted secret is seen.
        load: makes the value from the files' contents. Raises OSError, or ValueError with a
            message that shows nothing of the contents.

    Raises:
        OSError, ValueError: if the first reading fails.
    """

    def __init__(
        self, name: str, paths: Sequence[str], load: Callable[[Sequence[bytes]], T]
    ) -> None:
        self._name = name
        self._paths = tuple(paths)
        self._load = load
        self._lock = threading.Lock()
        self._reported = ""
        self._signature = self._sign()
        self._settled = False
        self._seen = self._read()
        self._value = load(self._seen)

    def current(self) -> T:
        """The value of the files as they are now, or the last valid one."""
        with self._lock:
            try:
                if self._has_changed():
                    self._value = self._load(self._seen)
                    self._reported = ""
                    _LOG.info("%s changed and was read again", self._name)
            except (OSError, ValueError) as error:
                if str(error) != self._reported:
                    self._reported = str(error)
                    _LOG.error(
                        "%s changed but cannot be used, so the last valid one stays: %s",
                        self._name,
                        error,
                    )
            return self._value

    def _has_changed(self) -> bool:
        """Whether the contents have changed; the new ones are in `_seen`."""
        signature = self._sign()
        if self._settled and signature == self._signature:
            return False
        newest = max(modified for modified, _, _ in signature)
        self._settled = time.time_ns() - newest > _COARSE_NS
        self._signature = signature
        contents = self._read()
        changed, self._seen = contents != self._seen, contents
        return changed

    def _read(self) -> Sequence[bytes]:
        return [Path(path).read_bytes() for path in self._paths]

    def _sign(self) -> Sequence[tuple[int, int, int]]:
        found = [os.stat(path) for path in self._paths]
        return [(one.st_mtime_ns, one.st_size, one.st_ino) for one in found]


def warn_if_others_can_read(path: str) -> None:
    """Logs a warning about a secret that every user of the machine can read."""
    if os.stat(path).st_mode & stat.S_IROTH:
        _LOG.warning("every user of this machine can read %s: chmod o-r %s", path, path)
