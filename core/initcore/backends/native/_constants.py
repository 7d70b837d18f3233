"""One value everywhere, by the library: constants, and the zeros of patterns."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from initcore.backends.native._library import Library
from initcore.machine import available_cpus, populate, run_all

# Bytes that a thread sets at a time: some tenths of a millisecond, so that a thread that starts
# late, or waits for its CPU, leaves its parts to the others. Parts of 1 MiB take a tenth longer.
_PART = 4 << 20

# Bytes from which several threads work: waking one takes as long as setting some mebibytes. (On a
# virtual machine 50 to 100 microseconds, and 16 MiB in a cache take 190.)
_LEAST_SHARED = 16 << 20


def fill_constant_with(library: Library, pattern: bytes, out: NDArray[Any]) -> None:
    """Sets all elements with the functions of a target, on all CPUs that this process may use."""
    eight = int.from_bytes(pattern * (8 // len(pattern)), "little")
    address, size = out.ctypes.data, out.nbytes
    item = out.itemsize
    if size < _LEAST_SHARED:
        populate(out)
        library.repeat(address, size, eight)
        return

    def set_part(first: int) -> None:
        last = min(first + _PART, size)
        populate(out[first // item : last // item])
        library.repeat(address + first, last - first, eight)

    run_all(set_part, range(0, size, _PART), available_cpus())
