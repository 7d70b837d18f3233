"""Mounts a tree with libfuse, through mfusepy, until a signal or an unmount ends it."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from initcore import MissingPackageError

from initclient._commands._mount.operations import Operations
from initclient._commands._mount.tree import Tree
from initclient._machine import here

_KIND = "initserve"
_DEVICE = "/dev/fuse"
_MOUNTS = Path("/proc/self/mountinfo")
_INSTALL = "install it with the system's packages, such as `apt install fuse3`"

# Contents never change, so the kernel need not ask again. In seconds.
_KEEP = 86400

# The default of 128 KiB has this process answer eight times as many calls.
_READ_AHEAD = 4 << 20

# Threads of libfuse that wait for calls: as many as it ever has by its own default, since version
# 3.12. Without a number, that of Debian 12 prints that 4294967295 is too many.
_MOST_THREADS = 10
_WITH_MOST_THREADS = (3, 12)

# What libfuse's main returns after a signal; it has unmounted then.
_LOOP_ENDED = 8

# umount2's flag: the folder goes now, and the mount when its last reader closes.
_DETACH = 2


def mount(
    tree: Tree,
    mountpoint: Path,
    *,
    for_all: bool = False,
    ready: Callable[[], None],
    report: Callable[[str], None],
) -> None:
    """Mounts a tree; returns after SIGINT, SIGTERM, SIGHUP or an unmount by others.

    Args:
        tree: the files.
        mountpoint: an empty folder.
        for_all: whether users other than the one of this process may read.
        ready: called when files can be opened.
        report: called with the text of a failed read.

    Raises:
        MissingPackageError: without mfusepy.
        OSError: without libfuse or /dev/fuse, or if libfuse cannot mount there.
    """
    fuse = _mfusepy()
    check_device()

    def mounted() -> None:
        # Not in the kernel's own call: this one calls the folder.
        here().start(lambda: _read_far_ahead(mountpoint), "initclient-mount")
        ready()

    options: dict[str, Any] = {"allow_other": True} if for_all else {}
    if (fuse.fuse_version_major, fuse.fuse_version_minor) >= _WITH_MOST_THREADS:
        options["max_idle_threads"] = _MOST_THREADS
    with _signals_of_libfuse():
        try:
            fuse.FUSE(
                Operations(tree, mounted, report),
                str(mountpoint),
                foreground=True,
                ro=True,
                fsname=_KIND,
                subtype=_KIND,
                kernel_cache=True,
                attr_timeout=_KEEP,
                entry_timeout=_KEEP,
                **options,
            )
        except RuntimeError as error:
            if error.args == (_LOOP_ENDED,):
                return
            raise OSError(f"libfuse cannot mount at {mountpoint} (its message is above)") from error


def check_mountpoint(mountpoint: Path) -> None:
    """Makes sure that the mount point is an empty folder; removes a dead mount there.

    Args:
        mountpoint: the folder; made if its parent exists.

    Raises:
        OSError: if it is none, or cannot be made.
    """
    if not mountpoint.parent.is_dir():
        raise FileNotFoundError(
            f"the folder {mountpoint.parent} of the mount point {mountpoint} does not exist; make "
            f"it: mkdir -p {mountpoint.parent}"
        )
    with suppress(FileExistsError):
        mountpoint.mkdir()
    try:
        names = os.listdir(mountpoint)
    except NotADirectoryError as error:
        raise NotADirectoryError(f"the mount point {mountpoint} is not a folder") from error
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        # Its process was killed and could not unmount.
        _unmount(mountpoint)
        names = os.listdir(mountpoint)
    if os.path.ismount(mountpoint) and _KIND in _kind_at(mountpoint):
        raise FileExistsError(
            f"{mountpoint} is mounted already; unmount it first: fusermount3 -u {mountpoint}"
        )
    if names:
        raise FileExistsError(
            f"the mount point {mountpoint} is not empty, and a mount would hide its files; give "
            "an empty folder"
        )


def check_device() -> None:
    """Makes sure that this process can mount.

    Raises:
        OSError: if it cannot.
    """
    if not os.path.exists(_DEVICE):
        raise OSError(
            f"there is no {_DEVICE}: load the kernel's module (modprobe fuse), or give the "
            "container the device (docker run --device /dev/fuse --cap-add SYS_ADMIN)"
        )
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise OSError(
            f"{_DEVICE} cannot be opened ({error.strerror}); give this user, or this container, "
            "access to it (docker run --device /dev/fuse --cap-add SYS_ADMIN)"
        ) from error
    if os.geteuid() != 0 and not shutil.which("fusermount3") and not shutil.which("fusermount"):
        raise OSError(f"a user other than root mounts with fusermount3; {_INSTALL}")


def _read_far_ahead(mountpoint: Path) -> None:
    """Has the kernel read 4 MiB ahead, if this user may: a sequential reader is twice as fast."""
    with suppress(OSError):
        device = os.stat(mountpoint).st_dev
        path = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
        Path(path).write_text(f"{_READ_AHEAD >> 10}\n")


def _mfusepy() -> Any:
    try:
        import mfusepy
    except ModuleNotFoundError as error:
        raise MissingPackageError("mfusepy", "mount", "initclient mount") from error
    except OSError as error:
        raise OSError(f"libfuse is not on this machine ({error}); {_INSTALL}") from error
    return mfusepy


def _kind_at(mountpoint: Path) -> str:
    """The file system type of the last mount at a path, such as "fuse.initserve"; "" for none."""
    wanted = os.fsencode(os.path.realpath(mountpoint))
    found = b""
    # In bytes: a path may be in any encoding, or in none.
    with _MOUNTS.open("rb") as mounts:
        for line in mounts:
            fields, _, rest = line.partition(b" - ")
            # Spaces, newlines and backslashes in paths are written in octal.
            written = fields.split(b" ")[4]
            path = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), written)
            if path == wanted:
                found = rest.split(b" ")[0]
    return found.decode()


def _unmount(mountpoint: Path) -> None:
    """Removes a dead mount of ours.

    Raises:
        OSError: if it is another's, or cannot be removed.
    """
    remedy = f"fusermount3 -u -z {mountpoint}"
    if _KIND not in _kind_at(mountpoint):
        raise OSError(
            f"the mount at {mountpoint} is dead (its process ended); unmount it first: {remedy}"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        if libc.umount2(os.fsencode(os.path.abspath(mountpoint)), _DETACH) == 0:
            return
    else:
        tool = shutil.which("fusermount3") or shutil.which("fusermount")
        if tool and os.spawnv(os.P_WAIT, tool, [tool, "-u", "-z", str(mountpoint)]) == 0:
            return
    raise OSError(f"the dead mount at {mountpoint} cannot be unmounted; try: {remedy}")


@contextmanager
def _signals_of_libfuse() -> Iterator[None]:
    """The body runs with the default actions: libfuse puts its own only in their place."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
