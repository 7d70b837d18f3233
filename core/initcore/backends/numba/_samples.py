"""Samples of a block of words.

The arithmetic is that of initcore.backends.numpy and initcore.stream.quantile, operation
by operation, float32 throughout. Integers are kept at 32 bits by a conversion around
each operation, since Numba widens them to 64 and halves the speed.
"""

# No `from __future__ import annotations`: Numba compiles these functions, untyped.
import numpy as np
from numba import njit

from initcore.backends.numba._intrinsics import (
    bits_of,
    float_of,
    mask_of_64,
    ones,
    trailing_zeros,
    widest_vectors,
)
from initcore.backends.numba._options import OPTIONS
from initcore.stream.quantile import (
    A0,
    A1,
    A2,
    B0,
    B1,
    B2,
    B3,
    C0,
    D0,
    D1,
    D2,
    D3,
    D4,
    L0,
    L1,
    L2,
    L3,
    L4,
    L5,
    L6,
    L7,
    LN4_HIGH,
    LN4_LOW,
    N0,
    N1,
    N2,
    N3,
    N4,
    SCALE,
    SQRT_HALF_BITS,
    TAIL,
)

_f = np.float32
_i = np.int32
_u = np.uint32
_u64 = np.uint64

_LOW = _u64(0xFFFFFFFF)
_32 = _u64(32)
_SIGN = _i(-(2**31))
_REST = _i(2**31 - 1)


@njit(**OPTIONS)
def uniform(words, out, mid, half, low, high):  # type: ignore[no-untyped-def]
    widest_vectors()
    for j in range(out.size):
        odd = _i(_i(_i(words[j] >> _u(8)) << _i(1)) + _i(1 - (1 << 24)))
        value = mid + half * (_f(odd) * _f(2.0**-24))
        value = value if value > low else low
        out[j] = value if value < high else high


@njit(**OPTIONS)
def into_interval(words, first, width):  # type: ignore[no-untyped-def]
    """first + mulhi32(word, width), in place."""
    widest_vectors()
    if width > _LOW:
        return  # the whole range, so first is 0; below, width has 32 bits as the CPU likes
    narrow = width & _LOW
    for j in range(words.size):
        words[j] = _u(first + ((_u64(words[j]) * narrow) >> _32))


@njit(**OPTIONS)
def clamp(out, low, high):  # type: ignore[no-untyped-def]
    widest_vectors()
    for j in range(out.size):
        value = out[j] if out[j] > low else low
        out[j] = value if value < high else high


@njit(**OPTIONS)
def central(words, out, mean, std):  # type: ignore[no-untyped-def]
    """The central formula on every word, without a branch; `tail` overwrites the tail's words."""
    widest_vectors()
    for j in range(out.size):
        s = _i(_i(words[j]) ^ _SIGN)
        k = _i(s ^ _i(s >> _i(31)))
        m = _i(k ^ _REST)
        big_k = _f(k) + _f(0.5)
        p = _f(m) * SCALE
        r = p - p * p
        n = (((N4 * r + N3) * r + N2) * r + N1) * r + N0
        d = (((D4 * r + D3) * r + D2) * r + D1) * r + D0
        z = big_k * C0 + (big_k * (big_k * big_k)) * (n / d)
        out[j] = mean + std * float_of(_i(bits_of(z) | _i(s & _SIGN)))


@njit(**OPTIONS)
def tail_places(words, places):  # type: ignore[no-untyped-def]
    """Collects the places of words in the tail; returns how many there are.

    m < TAIL holds for the TAIL smallest and the TAIL largest words. Modulo 2^32 these are 2 TAIL
    consecutive words, so one addition and one comparison decide.

    places: four more than there are words. Of 64 words two or three are in the tail. The first
    four are collected without a branch, which would be mispredicted nearly each time.
    """
    widest_vectors()
    count = np.int64(0)
    for first in range(0, words.size - 63, 64):
        left = mask_of_64(words, first, _u(TAIL), _u(TAIL + TAIL))
        after = count + np.int64(ones(left))
        for _ in range(4):
            places[count] = _u(_u64(first) + trailing_zeros(left))
            left &= left - _u64(1)
            count += 1
        while count < after:
            places[count] = _u(_u64(first) + trailing_zeros(left))
            left &= left - _u64(1)
            count += 1
        count = after
    for j in range(words.size & ~63, words.size):
        places[count] = _u(j)
        count += np.int64(_u(words[j] + _u(TAIL)) < _u(TAIL + TAIL))
    return count


@njit(**OPTIONS)
def tail(words, out, places, picked, values, mean, std):  # type: ignore[no-untyped-def]
    """The tail formula at these places."""
    widest_vectors()
    for i in range(places.size):
        picked[i] = _i(words[places[i]])
    for i in range(places.size):
        s = _i(picked[i] ^ _SIGN)
        m = _i(_i(s ^ _i(s >> _i(31))) ^ _REST)
        bits = bits_of(_f(_i(_i(m + m) + _i(1))))
        e = _i(_i(bits - SQRT_HALF_BITS) >> _i(23))
        g = float_of(_i(bits - _i(e << _i(23)))) - _f(1)
        log = ((((((L7 * g + L6) * g + L5) * g + L4) * g + L3) * g + L2) * g + L1) * g + L0
        log = log * g
        exponent = _f(_i(_i(33) - e))
        t = np.sqrt(exponent * LN4_HIGH + (exponent * LN4_LOW + log))
        a = (A2 * t + A1) * t + A0
        b = ((B3 * t + B2) * t + B1) * t + B0
        z = t - a / b
        values[i] = mean + std * float_of(_i(bits_of(z) | _i(s & _SIGN)))
    for i in range(places.size):
        out[places[i]] = values[i]
