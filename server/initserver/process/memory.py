"""Memory settings of a server's process, made once it has started."""

from __future__ import annotations

import ctypes
import gc
import os

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_KEPT = 16 << 20
_MAPPED = 4 << 20

# Settings of the operator: if one of them is set, nothing is changed.
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def settle() -> None:
    """Excludes the objects of start-up from garbage collection, and keeps freed memory.

    For processes that run only a server. A collection over all of Numba and NumPy costs tens of
    milliseconds, which would delay the first byte of some call. And glibc by itself returns the
    memory of each chunk that was sent to the system, which gives it back page by page: 70 page
    faults a chunk, a tenth of a server's time.
    """
    gc.collect()
    gc.freeze()
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Keeps up to `_KEPT` bytes in each arena of malloc; blocks of `_MAPPED` are returned."""
    if any(name in os.environ for name in _VARIABLES):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # no glibc
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    mallopt(_M_MMAP_THRESHOLD, _MAPPED)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
