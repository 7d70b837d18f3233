"""New memory for results."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

_LARGE = 4 << 20
"""Bytes from which NumPy asks for huge pages."""


def new_memory(nbytes: int) -> NDArray[np.uint8]:
    """An array of `nbytes` bytes with undefined content.

    Large arrays take the system's default page size, as torch's tensors do; NumPy's own would
    ask for huge pages. In a virtual machine whose host takes free memory back,
    the host has to find every part of a huge page at its first touch: 2.1 to 2.9 seconds a
    gigabyte were measured, and 0.4 to 0.6 for ordinary pages.

    Raises:
        MemoryError: if the system does not have that much.
    """
    if nbytes < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(nbytes, dtype=np.uint8)
    try:
        # Private: a process that is forked has its own values.
        pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for {nbytes} bytes: {error}") from error
    return np.frombuffer(pages, dtype=np.uint8)
