"""The rounded difference of two matrices by the library: a step of `orthogonal`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native._library import Library
from initcore.backends.native._parts import threads_and_parts
from initcore.machine import run_all

# Elements of a part that one thread works on, at least.
_PART = 1 << 16


def subtract_rounded_with(
    library: Library, whole: NDArray[np.float64], product: NDArray[np.float64]
) -> None:
    """Subtracts with the functions of a target, on all CPUs that this process may use."""
    rows, columns = product.shape
    item = product.itemsize
    stride = whole.strides[0] // item
    ours, theirs = whole.ctypes.data, product.ctypes.data
    threads, parts = threads_and_parts(product.size, _PART)
    step = max(-(-rows // parts), 1)

    def subtract_part(first: int) -> None:
        library.subtract_rounded(
            ours + first * stride * item,
            stride,
            theirs + first * columns * item,
            min(step, rows - first),
            columns,
        )

    run_all(subtract_part, range(0, rows, step), threads)
