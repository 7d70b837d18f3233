"""A value made from files, and made again when they are replaced or rewritten."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from initcore.machine import SETTLED, half_written, settled

T = TypeVar("T")

_LOG = logging.getLogger("initserver")

# Seconds. Clocks of file systems are coarse, and other machines write them: a file that changed
# may change again without other times. So after a change contents are compared, not only times,
# and after that still now and then.
_UNSETTLED = 2.5
_REREAD = 2.0

# Refused contents are tried again after so many seconds: the reason may have been the moment, such
# as a certificate that is valid from a second later, or a file that could not be read.
_RETRY = 1.0


class WatchedFiles(Generic[T]):
    """The value of some files, always current.

    A check costs a few system calls if nothing has changed. If the files cannot be read, or
    `load` refuses them, the last valid value stays in use and the log says why. It also stays
    for a moment where a file that was written in place may be incomplete.

    Args:
        name: names the value in the log.
        paths: where they are. Links are followed, so the swap of a mounted secret is seen.
        load: makes the value from the files' contents. Raises OSError, or ValueError with a
            message that shows nothing of the contents.
        on_use: called with each value that comes into use.

    Raises:
        OSError, ValueError: if the first reading fails.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        load: Callable[[Sequence[bytes]], T],
        on_use: Callable[[T], None] = lambda value: None,
    ) -> None:
        self._name = name
        self._paths = tuple(paths)
        self._load = load
        self._on_use = on_use
        self._lock = threading.Lock()
        self._reported = ""
        self._signature = self._sign()
        self._contents = self._read()
        self._value = load(self._contents)
        self._refused: Sequence[bytes] | None = None
        now = time.monotonic()
        self._changed_at = self._read_at = self._tried_at = self._first_seen = now
        on_use(self._value)

    def current(self) -> T:
        """The value of the files as they are now, or the last valid one."""
        with self._lock:
            try:
                contents = self._new_contents()
                if contents is not None:
                    self._take(contents)
            except (OSError, ValueError) as error:
                if str(error) != self._reported:
                    self._reported = str(error)
                    _LOG.error(
                        "%s changed but cannot be used, so the last valid one stays: %s",
                        self._name,
                        error,
                    )
            return self._value

    def _new_contents(self) -> Sequence[bytes] | None:
        """The files' contents, if a value has to be made from them."""
        now = time.monotonic()
        signature = self._sign()
        if signature != self._signature:
            self._signature, self._changed_at = signature, now
        elif (
            self._refused is None
            and now - self._changed_at > _UNSETTLED
            and now - self._read_at < _REREAD
        ):
            return None
        contents = self._read()
        self._read_at = now
        if contents == self._contents:
            self._refused, self._reported = None, ""
            return None
        if contents == self._refused and now - self._tried_at < _RETRY:
            return None
        return contents

    def _take(self, contents: Sequence[bytes]) -> None:
        now = time.monotonic()
        if contents != self._refused:
            self._refused, self._first_seen = contents, now
        # Until they are in use: whatever stops that, the contents are tried again.
        self._tried_at = now
        value = self._load(contents)
        if (
            half_written(self._contents, contents)
            and now - self._first_seen < SETTLED
            and not settled(self._paths)
        ):
            return
        self._on_use(value)
        self._value = value
        self._contents, self._refused, self._reported = contents, None, ""
        _LOG.info("%s changed and was read again", self._name)

    def _read(self) -> Sequence[bytes]:
        return [_contents_of(path) for path in self._paths]

    def _sign(self) -> Sequence[tuple[int, ...]]:
        found = [os.stat(path) for path in self._paths]
        return [
            (one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino, one.st_dev) for one in found
        ]


def _contents_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def warn_if_others_can_read(path: str) -> None:
    """Logs a warning about a secret that every user of the machine can read."""
    if os.stat(path).st_mode & stat.S_IROTH:
        _LOG.warning("every user of this machine can read %s: chmod o-r %s", path, path)
