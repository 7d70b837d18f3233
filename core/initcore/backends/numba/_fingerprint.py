"""The mixing of fingerprints, compiled: one Philox of position and bits for each element.

Apart from `_kernels`, since most processes never fingerprint and need not compile this.
"""

# No `from __future__ import annotations`: Numba compiles these functions, untyped.
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from initcore.backends.numba._intrinsics import widest_vectors
from initcore.backends.numba._kernels import compiled, digest_of_sources
from initcore.backends.numba._options import OPTIONS
from initcore.backends.numba._words import BLOCK, LOW, ten_rounds
from initcore.machine import available_cpus, run_all
from initcore.stream import Runs

# Elements of a part that one thread works on, at least.
_PART = 1 << 18

_u64 = np.uint64
_32 = _u64(32)


@njit(**OPTIONS)
def philox_sums(index, bits, key0, key1):  # type: ignore[no-untyped-def]
    """Philox of each (index, bits), its output as two uint64, each summed over all."""
    widest_vectors()
    sum0 = sum1 = _u64(0)
    for j in range(index.size):
        x0, x1 = index[j] & LOW, index[j] >> _32
        x2, x3 = bits[j] & LOW, bits[j] >> _32
        x0, x1, x2, x3 = ten_rounds(x0, x1, x2, x3, key0, key1)
        sum0 += (x0 & LOW) | (x1 << _32)
        sum1 += (x2 & LOW) | (x3 << _32)
    return sum0, sum1


@njit(**OPTIONS)
def widen(values, bits):  # type: ignore[no-untyped-def]
    widest_vectors()
    for j in range(values.size):
        bits[j] = _u64(values[j])


def _make_sums(sources_digest: str) -> Callable[..., None]:
    """The function to compile; see `_kernels._make_fill` for the digest."""

    def sums(starts, length, first, data, item, key0, key1, out):  # type: ignore[no-untyped-def]
        """Writes the sums over elements first, first + 1, ... of the runs into out[0:2].

        Args:
            starts, length: the runs, uint64 and int64.
            first: number of the first element, counted through the runs.
            data: the bytes of the elements.
            item: bytes of one element.
            key0, key1: the key.
            out: two uint64.
        """
        sources_digest  # noqa: B018
        index = np.empty(BLOCK, np.uint64)
        bits = np.empty(BLOCK, np.uint64)
        total = data.size // item
        sum0 = sum1 = _u64(0)
        done = np.int64(0)
        run = np.int64(first) // length
        offset = np.int64(first) - run * length
        while done < total:
            n = min(total - done, np.int64(BLOCK))
            at = np.int64(0)
            while at < n:
                size = min(length - offset, n - at)
                start = starts[run] + _u64(offset)
                here = index[at : at + size]
                for j in range(size):
                    here[j] = start + _u64(j)
                at += size
                offset += size
                if offset == length:
                    run += 1
                    offset = np.int64(0)
            block = data[done * item : (done + n) * item]
            if item == 1:
                widen(block, bits)
            elif item == 2:
                widen(block.view(np.uint16), bits)
            elif item == 4:
                widen(block.view(np.uint32), bits)
            else:
                widen(block.view(np.uint64), bits)
            more0, more1 = philox_sums(index[:n], bits[:n], _u64(key0), _u64(key1))
            sum0 += more0
            sum1 += more1
            done += n
        out[0] = sum0
        out[1] = sum1

    return sums


_sums: Any = compiled(_make_sums(digest_of_sources()))


def mix(runs: Runs, bits: NDArray[Any], key: tuple[int, int]) -> tuple[int, int]:
    """See `initcore.file.fingerprints.mix_reference`; on all CPUs this process may use."""
    count, item = runs.count, bits.itemsize
    starts, length = np.require(runs.starts, np.uint64, ["C", "W"]), int(runs.length)
    # Numba compiles anew for arrays that cannot be written: here none can.
    data = bits.view(np.uint8)
    data.flags.writeable = False
    threads = available_cpus() if count >= 2 * _PART else 1
    step = count
    if threads > 1:
        parts = min(4 * threads, count // _PART)
        step = -(-count // (parts * BLOCK)) * BLOCK
    firsts = range(0, count, max(step, 1))
    found = np.zeros((len(firsts), 2), dtype=np.uint64)

    def work(number: int) -> None:
        first = firsts[number]
        part = data[first * item : (first + step) * item]
        _sums(starts, length, first, part, item, *key, found[number])

    run_all(work, range(len(firsts)), threads)
    total = found.sum(axis=0, dtype=np.uint64)
    return int(total[0]), int(total[1])
