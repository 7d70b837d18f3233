"""The folder through which workers pass their metrics, and the leftovers of servers that died.

Each process of a server holds a shared lock on a file in the folder while it lives. A server
that starts removes the folders that nobody holds: those whose processes were all killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "initserver-metrics-"
_LOCK = "lock"


def make_metrics_folder() -> str:
    """Makes a private folder that this process holds, and removes those that nobody holds.

    Raises:
        OSError: if there is no folder for temporary files that can be written to.
    """
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    # The file gets its name when it is locked: others never see it without its lock.
    new = os.path.join(folder, "new")
    file = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)
    os.rename(new, os.path.join(folder, _LOCK))
    # Some network file systems grant every lock; there a folder in use looks like a leftover.
    if not _is_free(folder):
        _remove_leftovers(folder)
    return folder


def hold_metrics_folder(folder: str) -> None:
    """Holds a folder until this process ends, however it ends."""
    with suppress(OSError):
        file = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _remove_leftovers(own: str) -> None:
    for folder in Path(own).parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            # In a shared folder others could leave links here.
            status = folder.lstat()
            if str(folder) != own and status.st_uid == os.getuid() and _is_free(str(folder)):
                shutil.rmtree(folder, ignore_errors=True)


def _is_free(folder: str) -> bool:
    """Whether no process holds the folder."""
    try:
        file = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # it has no such file, so it is not known to be a leftover
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
