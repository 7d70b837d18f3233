"""The reference backend: plain NumPy, written to be read beside docs/stream-v1.md.

Every other backend is held to its bits. All arithmetic on samples is on float32
arrays with float32 constants, one rounding an operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.stream import (
    Draw,
    Job,
    NormalDraw,
    Runs,
    Scratch,
    Stream,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
    encode_samples,
    normal_quantile,
)

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]

# Elements made at a time: their arrays stay in the cache, and there are enough of them to make up
# for the calls, those of the tail too, which holds one in 26.
_BLOCK = 1 << 16


class NumpyBackend:
    """Fills arrays with plain NumPy on the calling thread."""

    name = "numpy"

    def fill(self, job: Job, runs: Runs, out: NDArray[Any]) -> None:
        """See `initcore.backends.Backend.fill`."""
        if not runs.count:
            return
        # The caller may have set np.seterr to raise; an underflow to a subnormal is no error here.
        with np.errstate(all="ignore"):
            # Short runs use few of a counter's four words: fewer elements, as many counters.
            block = min(_BLOCK * min(runs.length, 4) // 4, runs.count)
            words, scratch = _Words(job.stream, block), Scratch(block)
            for first in range(0, runs.count, block):
                count = min(block, runs.count - first)
                drawn = words.at(runs, first, count)
                out[first : first + count] = _encode(job, drawn, scratch)


class _Words:
    """Words of a stream, in arrays that each call uses again, as `Scratch`."""

    def __init__(self, stream: Stream, count: int) -> None:
        self._stream = stream
        self._keys = _keys((stream.d0, stream.d1))
        # A run that begins within a counter has one more.
        quads = count // 4 + 2
        self._lanes = np.empty((2, 2, quads), dtype=np.uint64)
        self._products = np.empty((2, quads), dtype=np.uint64)
        self._words = np.empty((quads, 2), dtype="<u8")

    def at(self, runs: Runs, first: int, count: int) -> U32:
        """The words of elements first .. first + count - 1, counted through the runs."""
        if len(runs.starts) != 1:
            return words_at(self._stream, runs.positions(first, count))
        return self._between(int(runs.starts[0]) + first, count)

    def _between(self, first: int, count: int) -> U32:
        """The words at positions first .. first + count - 1; they stay until the next call."""
        begin, end = first >> 2, (first + count + 3) >> 2
        quads = np.arange(begin, end, dtype=np.uint64)
        lanes, words = self._lanes[:, :, : end - begin], self._words[: end - begin]
        _set_counters(lanes, quads, self._stream)
        _ten_rounds(lanes, self._products[:, : end - begin], self._keys)
        # Two words in a number: half as many to put in their order.
        left, right = lanes
        right <<= _SHIFT
        np.bitwise_or(left, right, out=words.T)
        flat = words.reshape(-1).view("<u4").astype(np.uint32, copy=False)
        return flat[first - 4 * begin :][:count]


def _encode(job: Job, words: U32, scratch: Scratch) -> NDArray[Any]:
    if isinstance(job.draw, WordDraw):
        return words
    values = samples(job.draw, words, scratch)
    return values if job.dtype == "F32" else encode_samples(values, job.dtype)


def samples(draw: Draw, words: U32, scratch: Scratch | None = None) -> F32:
    """The float32 samples that a draw makes of words; `scratch` as for `normal_quantile`."""
    if isinstance(draw, UniformDraw):
        values = _scaled(symmetric_uniform(words, scratch), draw.half, draw.mid)
        return _clamped(values, draw.low, draw.high)
    if isinstance(draw, NormalDraw):
        return _scaled(normal_quantile(words, scratch), draw.std, draw.mean)
    if isinstance(draw, TruncNormalDraw):
        high = (words.astype(np.uint64) * np.uint64(draw.width)) >> np.uint64(32)
        inside = (np.uint64(draw.first) + high).astype(np.uint32)
        values = _scaled(normal_quantile(inside, scratch), draw.std, draw.mean)
        return _clamped(values, draw.low, draw.high)
    raise TypeError(f"{draw!r} has no samples")


def _scaled(values: F32, factor: float, offset: float) -> F32:
    """offset + factor * values, in their place."""
    values *= np.float32(factor)
    values += np.float32(offset)
    return values


def _clamped(values: F32, low: float, high: float) -> F32:
    """The values within [low, high], in their place."""
    # Few blocks have a value at a bound, and to look for one takes a quarter of the time. Not
    # np.clip, which gives other zeros than these two where a bound is a zero.
    if values.size and values.min() > low and values.max() < high:
        return values
    np.maximum(values, np.float32(low), out=values)
    np.minimum(values, np.float32(high), out=values)
    return values


def symmetric_uniform(words: U32, scratch: Scratch | None = None) -> F32:
    """t(w): an odd multiple of 2^-24 within (-1, 1), exact, with t(~w) = -t(w).

    Args:
        words: the words.
        scratch: arrays to work in; the result is one of them and stays until they are used again.
    """
    values, odd, *_ = (scratch or Scratch(words.size)).arrays(words.size)
    bits = odd.view(np.uint32)
    np.right_shift(words.reshape(-1), np.uint32(8), out=bits)
    whole = bits.view(np.int32)
    whole *= np.int32(2)
    whole += np.int32(1 - (1 << 24))
    values[...] = whole
    values *= np.float32(2.0**-24)
    return values.reshape(words.shape)


_ROUND = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: U64, key: tuple[int, int]) -> U64:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: uint64 array (4, n) of 32-bit numbers.
        key: two 32-bit numbers.

    Returns:
        uint64 array (4, n) of 32-bit words.
    """
    # Words 0 and 2 are what a round multiplies; with 1 and 3 they make two halves.
    lanes = np.array([counter[0::2], counter[1::2]])
    _ten_rounds(lanes, np.empty_like(lanes[0]), _keys(key))
    return lanes.transpose(1, 0, 2).reshape(counter.shape)


def _keys(key: tuple[int, int]) -> list[U64]:
    """The keys of the ten rounds, each for both halves of the words."""
    k0, k1 = key
    found = []
    for _ in range(10):
        found.append(np.array([[k0], [k1]], dtype=np.uint64))
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return found


def _ten_rounds(lanes: U64, products: U64, keys: Sequence[U64]) -> None:
    """Philox in the place of its counters.

    Args:
        lanes: words 0 and 2, then 1 and 3.
        products: to work in.
        keys: see `_keys`.
    """
    # Both products of a round together: half as many calls. In place: a fresh array for every step
    # would take longer than the step.
    (left, right), crossed = lanes, products[::-1]
    for key in keys:
        np.multiply(left, _ROUND, out=products)
        np.right_shift(crossed, _SHIFT, out=left)
        left ^= right
        left ^= key
        np.bitwise_and(crossed, _LOW, out=right)


def words_at(stream: Stream, index: U64) -> U32:
    """The words of a stream at these global positions, which need not be neighbours."""
    quads = index >> np.uint64(2)
    # Neighbours share a counter: up to a quarter of the work.
    new = np.ones(len(index), dtype=np.bool_)
    np.not_equal(quads[1:], quads[:-1], out=new[1:])
    counters = quads[new]
    lanes = np.empty((2, 2, len(counters)), dtype=np.uint64)
    _set_counters(lanes, counters, stream)
    _ten_rounds(lanes, np.empty_like(lanes[0]), _keys((stream.d0, stream.d1)))
    place = np.cumsum(new, dtype=np.int64) - 1
    place += _ROWS[(index & np.uint64(3)).view(np.int64)] * len(counters)
    return lanes.reshape(-1).take(place).astype(np.uint32)


# Which row of the lanes has a counter's word.
_ROWS = np.array([0, 2, 1, 3])


def _set_counters(lanes: U64, quads: U64, stream: Stream) -> None:
    (low, third), (high, fourth) = lanes
    np.bitwise_and(quads, _LOW, out=low)
    np.right_shift(quads, _SHIFT, out=high)
    third[:] = stream.d2
    fourth[:] = stream.d3
