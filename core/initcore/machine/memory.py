"""New memory for results: in the pages, ordinary or huge, that this machine has at hand.

The system makes a page at its first touch, and for a large result that takes as long as drawing. No
fixed choice is right: on one virtual machine huge pages took 0.14 seconds a GiB while its host had
the memory at hand and 0.6 to 2.9 when it had to find it, which changed within one result; ordinary
pages took 0.3 to 0.6. So workers make the pages of what they are about to fill, piece by piece,
both kinds are timed, and each piece follows the faster.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 4 << 20
"""Bytes from which NumPy asks for huge pages."""

_HUGE = 2 << 20
"""Bytes of a huge page on most machines."""

_PIECE = 2 * _HUGE
"""Bytes whose pages are made at a time."""

# Pieces after which the slower kind is tried again, since what the host has at hand changes. While
# huge pages are dear, this costs a fiftieth to a tenth of the time of all pages.
_BETWEEN_TRIALS = 64

# Smaller ranges are not worth a call of the system.
_LEAST_POPULATED = 64 << 10

_POPULATE_WRITE = 23  # Linux 5.14


class _Pages(mmap.mmap):
    """The pages of a result.

    Attributes:
        huge: whether the system was asked for huge pages, for the whole of it.
    """

    huge = False


class _Kinds:
    """How long a byte of the last piece of each kind of page took.

    Not locked: a wrong choice between threads costs only time.
    """

    def __init__(self) -> None:
        self._seconds: dict[bool, float] = {}
        self._until_trial = _BETWEEN_TRIALS

    def next_is_huge(self) -> bool:
        """Whether the next piece is to have huge pages."""
        for huge in (False, True):
            if huge not in self._seconds:
                return huge
        faster = self.huge_is_faster
        self._until_trial -= 1
        if self._until_trial > 0:
            return faster
        self._until_trial = _BETWEEN_TRIALS
        return not faster

    @property
    def huge_is_faster(self) -> bool:
        """Whether huge pages were the faster ones, when both kinds were timed last."""
        ordinary = self._seconds.get(False)
        return ordinary is not None and self._seconds.get(True, ordinary) < ordinary

    def took(self, huge: bool, seconds: float) -> None:
        """Notes the seconds that a byte took."""
        self._seconds[huge] = seconds


_kinds = _Kinds()


def new_memory(nbytes: int) -> NDArray[np.uint8]:
    """An array of `nbytes` bytes with undefined content.

    Workers call `populate` for the part that they are about to write.

    Raises:
        MemoryError: if the system does not have that much.
    """
    if nbytes < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(nbytes, dtype=np.uint8)
    try:
        # Private: a process that is forked has its own values.
        pages = _Pages(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for {nbytes} bytes: {error}") from error
    # Where nothing can be timed, the system chooses at the first touch, as for NumPy's arrays.
    pages.huge = _madvise() is None or _kinds.huge_is_faster
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # some systems have no huge pages
            pages.madvise(mmap.MADV_HUGEPAGE if pages.huge else mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype=np.uint8)


def populate(array: NDArray[Any]) -> None:
    """Makes the pages of an array that is about to be written, if it lies in new memory.

    One call for a piece takes two thirds of the time of a fault for each of its pages. It does
    nothing for other memory, and where the system has no such call.

    Args:
        array: contiguous.
    """
    if array.nbytes < _LEAST_POPULATED or _madvise() is None:
        return
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    pages = base.obj if isinstance(base, memoryview) else base
    if not isinstance(pages, _Pages):
        return
    begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
    while begin < end:
        # Pieces end at multiples of their size, so that they hold whole huge pages.
        stop = min((begin // _PIECE + 1) * _PIECE, end)
        huge = _kinds.next_is_huge()
        # The thread's own time, in which it did not wait for a CPU.
        began = time.thread_time()
        # Only where it is not so already: the system waits until no other thread makes pages.
        if huge != pages.huge:
            _advise(begin, stop, mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        if not _advise(begin, stop, _POPULATE_WRITE):
            return
        if begin % _HUGE == stop % _HUGE == 0:
            _kinds.took(huge, (time.thread_time() - began) / (stop - begin))
        begin = stop


def _advise(begin: int, end: int, advice: int) -> bool:
    """Calls madvise(2) for the pages that hold a range; whether it did as it was asked."""
    call, first = _madvise(), begin // mmap.PAGESIZE * mmap.PAGESIZE
    return call is not None and call(first, end - first, advice) == 0


@cache
def _madvise() -> Any:
    """The function of the C library; None where it cannot make pages, as on Linux before 5.14.

    Not Python's own, which keeps the other threads waiting.
    """
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        call = ctypes.CDLL(None).madvise
        call.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        call.restype = ctypes.c_int
        # Asked once: advice for the pieces of a result would split it into thousands of mappings,
        # of which a process may have 65,530, and no piece would get huge pages.
        trial = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, AttributeError, TypeError):
        return None
    page = np.frombuffer(trial, dtype=np.uint8)
    return call if call(page.ctypes.data, page.size, _POPULATE_WRITE) == 0 else None
