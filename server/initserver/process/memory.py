"""What a process of our own settles about its memory once it has started."""

from __future__ import annotations

import ctypes
import gc
import os

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_KEPT = 16 << 20
_MAPPED = 4 << 20

# Whoever sets one of them has a reason.
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def settle() -> None:
    """Takes what start-up left out of the garbage collector's rounds, and keeps freed memory.

    For processes that are ours alone. A round over all of Numba and NumPy costs tens of
    milliseconds, which would be some caller's wait for a first byte. And glibc by itself gives
    the memory of each chunk that was sent back to the system, which hands it out again page
    by page: 70 page faults a chunk, a tenth of a server's time.
    """
    gc.collect()
    gc.freeze()
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Up to `_KEPT` bytes at the end of each of malloc's arenas; blocks of `_MAPPED` go back."""
    if any(name in os.environ for name in _VARIABLES):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # no glibc
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    mallopt(_M_MMAP_THRESHOLD, _MAPPED)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
