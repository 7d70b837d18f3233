"""Memory settings of a server's process, made once it has started."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable

from initcore.machine import after_pauses

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# Collections of the middle generation until one of the oldest.
_NEVER = 1 << 30

# Seconds between collections of the oldest generation, and after how many of them a server that
# is never idle collects too.
_COLLECT_AFTER, _COLLECT_AT_LATEST = 60.0, 10

# Collections of the middle generation, each of some 7,000 new objects, after which the oldest one
# is frozen: a collection of it takes less than 0.1 s then.
_FREEZE_AFTER = 40

# New objects of a pause that are left out: a collection of fewer takes some milliseconds.
_MANY = 20_000

# Collections of the oldest generation until one that takes in what was frozen.
_ALL_AFTER = 60

_KEPT = 16 << 20
_MAPPED = 4 << 20

# Settings of the operator: if one of them is set, nothing is changed.
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def settle(is_idle: Callable[[], bool] = lambda: True) -> None:
    """Keeps garbage collection short, and keeps freed memory.

    For processes that run only a server. A collection over all modules costs tens of
    milliseconds, one over the layout of a plan of 100,000 tensors half a second, in which no
    thread runs. So the objects of start-up are left out, collections of the oldest generation
    wait until no call runs, or for ten minutes, and what many new objects lived through is left
    out too, but for one collection an hour, while no call runs. And glibc by itself returns the
    memory of each chunk that was sent to the system, which gives it back page by page: 70 page
    faults a chunk, a tenth of a server's time.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    gc.callbacks.append(_Freezer().collected)
    after_pauses(_freeze_large)
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


def _freeze_large() -> None:
    """Leaves what a pause of the collector made out of later collections, if it is much."""
    if gc.get_count()[0] > _MANY:
        gc.freeze()


class _Freezer:
    """Leaves the oldest generation out of later collections once it has grown by so much."""

    def __init__(self) -> None:
        self._middle = 0

    def collected(self, phase: str, about: dict[str, int]) -> None:
        """Called before and after each collection, as one of `gc.callbacks`."""
        if phase == "stop" and about["generation"] == 1:
            self._middle += 1
            if self._middle >= _FREEZE_AFTER:
                self._middle = 0
                gc.freeze()


def _collect_when_idle(is_idle: Callable[[], bool]) -> None:
    """Collects garbage of all generations once in a while, and best while no call runs."""
    since_all = 0
    while True:
        for _ in range(_COLLECT_AT_LATEST):
            time.sleep(_COLLECT_AFTER)
            if is_idle():
                break
        since_all += 1
        if since_all >= _ALL_AFTER and is_idle():
            # Cycles that were frozen before they became garbage.
            gc.unfreeze()
            since_all = 0
        gc.collect()
        # What lives now is left out of the next collection; it is still freed with its last use.
        gc.freeze()
