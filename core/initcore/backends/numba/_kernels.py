"""The compiled function: `fill` writes the samples of one stretch of runs.

It works block by block: words, draw, element type. One function is compiled for all draws
and element types: they share nearly all code, so a second one costs nothing, and one file
in Numba's cache holds everything.
"""

# No `from __future__ import annotations`: Numba compiles these functions, untyped.
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from initcore.backends.numba._encodings import to_bfloat16, to_double, to_small
from initcore.backends.numba._intrinsics import widest_vectors
from initcore.backends.numba._options import OPTIONS
from initcore.backends.numba._samples import (
    central,
    clamp,
    into_interval,
    tail,
    tail_places,
    uniform,
)
from initcore.backends.numba._words import (
    BLOCK,
    COUNTERS,
    SINGLE,
    claim_and_philox,
    copy,
    gather,
    list_indices,
    locate,
    philox,
    philox_of_each,
)
from initcore.stream import quantile as normal_quantile

UNIFORM, NORMAL, TRUNC_NORMAL, WORDS = range(4)
"""What `fill` draws."""

F32, F64, BF16, F16, F8_E4M3, F8_E5M2 = range(6)
"""Element types that `fill` writes; the draw `WORDS` writes uint32 with any of them."""

_f = np.float32
_i = np.int32
_u64 = np.uint64


def _make_fill(sources_digest: str) -> Callable[..., None]:
    """The function to compile.

    Numba's cache key covers this file, but not the files that it imports from. It also covers
    the variables of a closure, so a digest of all these files is one of them.
    """

    def fill(  # type: ignore[no-untyped-def]
        starts, length, first, out, dtype, draw, d0, d1, d2, d3, begin, width, p0, p1, low, high
    ):
        """Writes elements first, first + 1, ... of the runs into out.

        Args:
            starts, length: the runs, uint64 and int64.
            first: number of the first element wanted, counted through the runs.
            out: the bytes of the output.
            dtype, draw: the numbers above.
            d0, d1, d2, d3: the stream.
            begin, width: first and width of a truncated normal draw.
            p0, p1: mean and std, or mid and half of a uniform draw.
            low, high: what samples are clamped to (not those of a normal draw).
        """
        sources_digest  # noqa: B018
        widest_vectors()
        scale, shift = _f(p1), _f(p0)
        key = (_u64(d0), _u64(d1), _u64(d2), _u64(d3))
        counters = np.zeros(COUNTERS, np.uint64)
        sources = np.empty(COUNTERS, np.int64)
        sizes = np.empty(COUNTERS, np.int64)
        quads = np.empty(2 * COUNTERS, np.uint64)
        words_of_quads = quads.view(np.uint32)
        packed = np.empty(BLOCK, np.uint32)
        index = np.empty(BLOCK, np.uint64)
        buffer = np.empty(BLOCK, np.float32)
        places = np.empty(BLOCK + 4, np.uint32)
        picked = np.empty(BLOCK, np.int32)
        tails = np.empty(BLOCK, np.float32)
        item = 8 if dtype == F64 else 4 if dtype == F32 or draw == WORDS else 1
        if dtype == BF16 or dtype == F16:  # noqa: SIM109
            item = 2
        total = out.size // item
        done = np.int64(0)
        while done < total:
            n = min(total - done, np.int64(BLOCK))
            if length <= SINGLE:
                words = packed[:n]
                list_indices(starts, length, first + done, index[:n])
                philox_of_each(index[:n], words, *key)
            else:
                used, pieces, n = locate(starts, length, first + done, n, counters, sources, sizes)
                # Whole vectors: a remainder would be computed element by element.
                used = min((used + 31) & -32, COUNTERS)
                if draw == UNIFORM:
                    block = out[done * item : (done + n) * item]
                    claim_and_philox(block, counters[:used], quads, *key)
                else:
                    philox(counters[:used], quads, *key)
                if pieces == 1:
                    words = words_of_quads[sources[0] : sources[0] + n]
                else:
                    gather(words_of_quads, sources, sizes, pieces, packed)
                    words = packed[:n]
            block = out[done * item : (done + n) * item]
            if draw == WORDS:
                copy(words, block.view(np.uint32))
            else:
                samples = block.view(np.float32) if dtype == F32 else buffer[:n]
                if draw == UNIFORM:
                    uniform(words, samples, shift, scale, _f(low), _f(high))
                else:
                    if draw == TRUNC_NORMAL:
                        into_interval(words, _u64(begin), _u64(width))
                    central(words, samples, shift, scale)
                    count = tail_places(words, places)
                    tail(words, samples, places[:count], picked, tails, shift, scale)
                    if draw == TRUNC_NORMAL:
                        clamp(samples, _f(low), _f(high))
                if dtype == F64:
                    to_double(samples, block.view(np.float64))
                elif dtype == BF16:
                    to_bfloat16(samples, block.view(np.uint16))
                elif dtype == F16:
                    to_small(samples, block.view(np.uint16), _i(10), _i(-14), _i(0x7C00), _i(15))
                elif dtype == F8_E4M3:
                    to_small(samples, block, _i(3), _i(-6), _i(0x7F), _i(7))
                elif dtype == F8_E5M2:
                    to_small(samples, block, _i(2), _i(-14), _i(0x7C), _i(7))
            done += n

    return fill


def digest_of_sources() -> str:
    """The SHA-256 of everything that this package compiles."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(normal_quantile.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def compiled(function: Callable[..., None]) -> Any:
    """Compiled when first called, and cached beside this file or in the user's cache."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:
        # No folder for the cache can be written: each process compiles for itself.
        return njit(**OPTIONS)(function)


fill = compiled(_make_fill(digest_of_sources()))
