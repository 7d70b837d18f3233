"""Memory settings of a server's process, made once it has started."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# Collections of the middle generation until one of the oldest.
_NEVER = 1 << 30

# Seconds between collections of all generations, and after how many of them a server that is
# never idle collects too.
_COLLECT_AFTER, _COLLECT_AT_LATEST = 60.0, 10

_KEPT = 16 << 20
_MAPPED = 4 << 20

# Settings of the operator: if one of them is set, nothing is changed.
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def settle(is_idle: Callable[[], bool] = lambda: True) -> None:
    """Keeps garbage collection short, and keeps freed memory.

    For processes that run only a server. A collection over all modules costs tens of
    milliseconds, one over the layout of a plan of 100,000 tensors half a second, in which no
    thread runs. So the objects of start-up are left out, and collections of the oldest
    generation wait until no call runs, or for ten minutes. And glibc by itself returns the
    memory of each chunk that was sent to the system, which gives it back page by page: 70 page
    faults a chunk, a tenth of a server's time.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    threading.Thread(
        target=_collect_when_idle, args=(is_idle,), name="initserver-garbage", daemon=True
    ).start()
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


def _collect_when_idle(is_idle: Callable[[], bool]) -> None:
    """Collects garbage of all generations once in a while, and best while no call runs."""
    while True:
        for _ in range(_COLLECT_AT_LATEST):
            time.sleep(_COLLECT_AFTER)
            if is_idle():
                break
        gc.collect()
        # What lives now is left out of the next collection; it is still freed with its last use.
        gc.freeze()
