"""Whether file systems in user space can be mounted on this machine, tried without initserve."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

EMPTY = """
import sys, mfusepy
class Empty(mfusepy.Operations):
    use_ns = True
    def readdir(self, path, fh):
        return [".", ".."]
mfusepy.FUSE(Empty(), sys.argv[1], foreground=True, fsname="other", subtype="other")
"""
"""A program that mounts an empty folder at its argument, by mfusepy alone."""


@cache
def missing() -> str:
    """What a mount lacks here; "" if an empty file system can be mounted."""
    if find_spec("mfusepy") is None:
        return "mfusepy"
    if not (os.environ.get("FUSE_LIBRARY_PATH") or ctypes.util.find_library("fuse3")):
        return "libfuse (apt install fuse3)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    # A container may have the device and forbid mounts all the same.
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen([sys.executable, "-c", EMPTY, folder], stderr=subprocess.PIPE) as process,
    ):
        deadline = time.monotonic() + 30
        while not Path(folder).is_mount():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                lines = process.communicate()[1].decode(errors="replace").splitlines()
                return f"right to mount ({lines[0] if lines else 'no reason was given'})"
            time.sleep(0.02)
        process.terminate()
        process.communicate()
    return ""
