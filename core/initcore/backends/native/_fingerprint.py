"""The mixing of fingerprints by the library: one Philox of position and bits for each element."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native._library import Library, library
from initcore.backends.native._parts import threads_and_parts
from initcore.machine import run_all
from initcore.stream import Runs

# Elements of a part that one thread works on, at least.
_PART = 1 << 18

_MODULUS = 1 << 64

_Sums = ctypes.c_uint64 * 2


def mix(runs: Runs, bits: NDArray[Any], key: tuple[int, int]) -> tuple[int, int]:
    """See `initcore.file.fingerprints.mix_reference`; on all CPUs that this process may use."""
    return mix_with(library(), runs, bits, key)


def mix_with(
    library: Library, runs: Runs, bits: NDArray[Any], key: tuple[int, int]
) -> tuple[int, int]:
    """Mixes with the functions of a target."""
    count, item = runs.count, bits.itemsize
    starts, data = np.ascontiguousarray(runs.starts, np.uint64), np.ascontiguousarray(bits)
    begin, address, length = starts.ctypes.data, data.ctypes.data, int(runs.length)
    threads, parts = threads_and_parts(count, _PART)
    step = max(-(-count // parts), 1)
    firsts = range(0, count, step)
    found = [_Sums() for _ in firsts]

    def work(number: int) -> None:
        first = firsts[number]
        library.mix(
            *(begin, length, first, min(step, count - first), address + first * item, item),
            *(*key, found[number]),
        )

    run_all(work, range(len(firsts)), threads)
    return sum(s[0] for s in found) % _MODULUS, sum(s[1] for s in found) % _MODULUS
