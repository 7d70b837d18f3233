"""Words of a block: from positions in the global tensor to Philox's output."""

# No `from __future__ import annotations`: Numba compiles these functions, untyped.
import numpy as np
from numba import njit

from initcore.backends.numba._intrinsics import prefetch_for_writing, widest_vectors
from initcore.backends.numba._options import OPTIONS

BLOCK = 2048
"""Words of a block: everything between them and the output fits the innermost cache."""

COUNTERS = BLOCK // 4
"""Philox counters of a block."""

SINGLE = 2
"""Runs up to this long are worked on element by element, each with a counter of its own."""

_CLAIMED = 64
"""Counters between two prefetches of the output."""

_LINE = 64

_u = np.uint32
_u64 = np.uint64
LOW = _u64(0xFFFFFFFF)
_32 = _u64(32)
_M0 = _u64(0xD2511F53)
_M1 = _u64(0xCD9E8D57)
_W0 = _u64(0x9E3779B9)
_W1 = _u64(0xBB67AE85)


@njit(forceinline=True, **OPTIONS)
def ten_rounds(x0, x1, x2, x3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32-10 of the counter x under the key k.

    Each 32-bit number is in the lower half of a 64-bit lane whose upper half is undefined, in
    the results too. The 32 x 32 multiplication takes this form, so that no shuffles are needed:
    twice as fast on AVX2.
    """
    for _ in range(10):
        p0 = _M0 * (x0 & LOW)
        p1 = _M1 * (x2 & LOW)
        x0 = (p1 >> _32) ^ x1 ^ k0
        x2 = (p0 >> _32) ^ x3 ^ k1
        x1, x3 = p1, p0
        k0 = (k0 + _W0) & LOW
        k1 = (k1 + _W1) & LOW
    return x0, x1, x2, x3


@njit(**OPTIONS)
def philox(counters, words, d0, d1, d2, d3):  # type: ignore[no-untyped-def]
    """The four words of each counter, as two uint64."""
    widest_vectors()
    for j in range(counters.size):
        x0, x1, x2, x3 = counters[j] & LOW, counters[j] >> _32, d2, d3
        x0, x1, x2, x3 = ten_rounds(x0, x1, x2, x3, d0, d1)
        words[2 * j] = (x0 & LOW) | (x1 << _32)
        words[2 * j + 1] = (x2 & LOW) | (x3 << _32)


@njit(**OPTIONS)
def claim(out, first, last):  # type: ignore[no-untyped-def]
    """Prefetches the cache lines of bytes first .. last - 1 of the output, for writing.

    Called between two stretches of Philox, while the memory is idle. Without it the stores to a
    large output wait for memory, and uniform numbers take half as long again.
    """
    for place in range(first, last, _LINE):
        prefetch_for_writing(out, np.int64(place))


@njit(**OPTIONS)
def claim_and_philox(out, counters, words, d0, d1, d2, d3):  # type: ignore[no-untyped-def]
    """`philox` a stretch at a time, each after a `claim` of its share of the output's bytes."""
    share = out.size * _CLAIMED // counters.size + 1
    first = 0
    for at in range(0, counters.size, _CLAIMED):
        stop = min(at + _CLAIMED, counters.size)
        claim(out, first, first + share)
        first += share
        philox(counters[at:stop], words[2 * at : 2 * stop], d0, d1, d2, d3)


@njit(**OPTIONS)
def philox_of_each(index, words, d0, d1, d2, d3):  # type: ignore[no-untyped-def]
    """The word at each global index, with one Philox for each."""
    widest_vectors()
    for j in range(index.size):
        i = index[j]
        x0, x1, x2, x3 = (i >> _u64(2)) & LOW, i >> _u64(34), d2, d3
        x0, x1, x2, x3 = ten_rounds(x0, x1, x2, x3, d0, d1)
        even, odd = (x2, x3) if i & _u64(2) else (x0, x1)
        words[j] = _u((odd if i & _u64(1) else even) & LOW)


@njit(**OPTIONS)
def list_indices(starts, length, first, index):  # type: ignore[no-untyped-def]
    """The global indices of the elements from `first` on, as many as `index` takes."""
    widest_vectors()
    if length == 1:
        for j in range(index.size):
            index[j] = starts[first + j]
    else:
        for j in range(index.size):
            run = (first + j) >> 1
            index[j] = starts[run] + _u64((first + j) & 1)


@njit(**OPTIONS)
def locate(starts, length, first, limit, counters, sources, sizes):  # type: ignore[no-untyped-def]
    """The counters of the elements from `first` on, as many as the block holds.

    The elements come in pieces, one a run: piece i is words[sources[i] :][: sizes[i]].

    Returns:
        The numbers of counters, of pieces and of elements.
    """
    widest_vectors()
    run = first // length
    offset = first - run * length
    used = pieces = found = np.int64(0)
    while found < limit and used < COUNTERS:
        index = starts[run] + _u64(offset)
        lane = np.int64(index & _u64(3))
        size = min(length - offset, limit - found, 4 * (COUNTERS - used) - lane)
        count = (lane + size + 3) >> 2
        here = counters[used : used + count]
        counter = index >> _u64(2)
        for j in range(count):
            here[j] = counter + _u64(j)
        sources[pieces] = 4 * used + lane
        sizes[pieces] = size
        used += count
        found += size
        pieces += 1
        run += 1
        offset = np.int64(0)
    return used, pieces, found


@njit(**OPTIONS)
def gather(words, sources, sizes, pieces, packed):  # type: ignore[no-untyped-def]
    """Moves the words of all pieces together."""
    at = np.int64(0)
    for i in range(pieces):
        source, size = sources[i], sizes[i]
        for j in range(size):
            packed[_u64(at + j)] = words[_u64(source + j)]
        at += size


@njit(**OPTIONS)
def copy(words, out):  # type: ignore[no-untyped-def]
    widest_vectors()
    for j in range(out.size):
        out[j] = words[j]
