"""Functions of drawn numbers by the library: the elements of `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native._library import DTYPE_NUMBERS, Library
from initcore.backends.native._parts import threads_and_parts
from initcore.backends.native._steps import packed_steps
from initcore.machine import run_all
from initcore.stream import Step

# Elements of a part that one thread works on, at least, and elements at the edges of parts.
_PART = 1 << 16
_ALIGNMENT = 1 << 9


def apply_with(
    library: Library,
    steps: Sequence[Step],
    values: NDArray[np.float64],
    dtype: str,
    out: NDArray[Any],
) -> None:
    """Applies with the functions of a target, on all CPUs that this process may use."""
    count, number = len(values), DTYPE_NUMBERS[dtype]
    if not count:
        return
    chain = packed_steps(steps)
    given, address, item = values.ctypes.data, out.ctypes.data, out.itemsize
    threads, parts = threads_and_parts(count, _PART)
    size = -(-count // (parts * _ALIGNMENT)) * _ALIGNMENT

    def apply_part(first: int) -> None:
        some = min(size, count - first)
        library.apply(chain, len(steps), given + 8 * first, some, number, address + item * first)

    run_all(apply_part, range(0, count, size), threads)
