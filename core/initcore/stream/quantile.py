"""z(w): the float32 inverse normal distribution function at (w + 1/2) / 2^32.

Only integer operations and IEEE float32 `+ - * / sqrt`, conversions and comparisons,
each rounded on its own, in the order written here: these bits are the contract
(docs/stream-v1.md). z(~w) = -z(w) exactly; over all 2^32 words the error is at most
3.76 ulp and 0.47 ulp on average (docs/normal-accuracy.md).

With p = min(u, 1 - u) for u = (w + 1/2) / 2^32, and q = 1/2 - p:

- central, p >= 0.0195: |z| = sqrt(2 pi) q + q^3 N(r) / D(r) with r = p - p^2 = 1/4 - q^2.
  The first term is the slope at the median; only the rest, at most 39 % of z, carries
  the rounding errors of the rational function. r comes from p, not q, because near the
  edge of the region 1/4 - q^2 would cancel. All coefficients are positive, so nothing
  cancels in N and D either.
- tail: t = sqrt(-2 log p) and |z| = t - A(t) / B(t), a small positive correction. The
  logarithm is a polynomial of our own, since no two libraries round theirs alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_F32 = NDArray[np.float32]


def _f(text: str) -> np.float32:
    return np.float32(float.fromhex(text))


# K = 2^32 q stays unscaled, which saves a multiplication: C0 = sqrt(2 pi) holds a factor
# 2^-32 and N a factor 2^-96. Powers of two change no bit.
SCALE = _f("0x1p-32")
C0 = _f("0x1.40d932p-31")
N0 = _f("0x1.44565ep-92")
N1 = _f("0x1.d621aap-85")
N2 = _f("0x1.7143c2p-80")
N3 = _f("0x1.6da414p-78")
N4 = _f("0x1.986692p-81")
D0 = _f("0x1.4f5c22p+0")
D1 = _f("0x1.91b22ap+8")
D2 = _f("0x1.15dd86p+14")
D3 = _f("0x1.44ff42p+17")
D4 = _f("0x1.158438p+18")

# -2 log(1 + g) = g (L0 + L1 g + ...), for sqrt(1/2) <= 1 + g < sqrt(2).
L0 = _f("-0x1.fffffap+0")
L1 = _f("0x1.0000ep+0")
L2 = _f("-0x1.555ccep-1")
L3 = _f("0x1.ff2ad8p-2")
L4 = _f("-0x1.96fffep-2")
L5 = _f("0x1.62fd4ep-2")
L6 = _f("-0x1.50481ap-2")
L7 = _f("0x1.9dc9aap-3")

# 2 log(2) in two parts; the first has 18 bits, so that its product with an exponent is exact.
LN4_HIGH = _f("0x1.62e4p+0")
LN4_LOW = _f("0x1.7f7d1cp-19")

A0 = _f("0x1.e15b9ap+1")
A1 = _f("0x1.4edcd6p+1")
A2 = _f("0x1.484e9ap-3")
B0 = _f("0x1.6e147ap+0")
B1 = _f("0x1.6e2bc2p+1")
B2 = _f("0x1.acff1ep-1")
B3 = _f("0x1.c290e4p-6")

TAIL = np.int32(0x5000000)
"""Words whose p * 2^32 is below this use the tail formula: 3.9 % of them."""

SQRT_HALF_BITS = np.int32(0x3F3504F3)

_SIGN = np.int32(-0x80000000)
_ALL = np.int32(0x7FFFFFFF)
_SHIFT = np.int32(31)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


class Scratch:
    """Arrays in which `normal_quantile` works, for calls that follow one another.

    The system makes a new array's pages at their first touch, which takes longer than an operation.

    Args:
        count: words of a call, at most.
    """

    def __init__(self, count: int) -> None:
        self._arrays = np.empty((5, count), dtype=np.float32)

    def arrays(self, count: int) -> Iterator[_F32]:
        """The five arrays, `count` elements of each."""
        return iter(self._arrays[:, :count])


def normal_quantile(
    words: NDArray[np.uint32], scratch: Scratch | None = None
) -> NDArray[np.float32]:
    """z of each word, as float32 of the same shape.

    Args:
        words: the words.
        scratch: arrays to work in; the result is one of them and stays until they are used again.
    """
    s = words.reshape(-1).view(np.int32)
    z, p, r, n, d = (scratch or Scratch(s.size)).arrays(s.size)
    # The same for w and ~w: the distances from the end of its half and from the middle.
    m, k = p.view(np.int32), r.view(np.int32)
    np.right_shift(s, _SHIFT, out=m)
    m ^= s
    np.bitwise_xor(m, _ALL, out=k)
    in_tail = np.flatnonzero(m < TAIL)
    m_in_tail = m.take(in_tail)
    z[:] = k
    p[:] = m
    _central(z, p, r, n, d)
    z[in_tail] = _tail(m_in_tail)
    # -|z| is that of the lower half; the first bit of a word in the upper half turns its sign.
    sign, bits = p.view(np.int32), z.view(np.int32)
    np.bitwise_and(s, _SIGN, out=sign)
    bits ^= sign
    return z.reshape(words.shape)


def _central(z: _F32, p: _F32, r: _F32, n: _F32, d: _F32) -> None:
    """-|z| for p = (m + 1/2) / 2^32 and q = (k + 1/2) / 2^32, in the place of k.

    |z| is K C0 + (K K K) (N / D), with K = k + 1/2 and r = p - p p.

    Args:
        z: k, as float32.
        p: m, as float32.
        r, n, d: to work in.
    """
    z += _HALF
    p *= SCALE  # the missing half matters only in the tail
    np.multiply(p, p, out=r)
    np.subtract(p, r, out=r)
    _polynomial(r, (N4, N3, N2, N1, N0), out=n)
    _polynomial(r, (D4, D3, D2, D1, D0), out=d)
    n /= d
    cube = np.multiply(z, z, out=d)
    cube *= z
    cube *= n
    z *= -C0
    z -= cube


def _polynomial(r: _F32, coefficients: tuple[np.float32, ...], out: _F32) -> None:
    """By Horner's rule, the highest power first."""
    first, *rest, last = coefficients
    np.multiply(r, first, out=out)
    for coefficient in rest:
        out += coefficient
        out *= r
    out += last


def _tail(m: NDArray[np.int32]) -> _F32:
    """-|z| for p = (m + 1/2) / 2^32 with m < TAIL."""
    bits = (m + m + np.int32(1)).astype(np.float32).view(np.int32)  # 2^33 p = 2^e (1 + g)
    e = (bits - SQRT_HALF_BITS) >> np.int32(23)
    g = (bits - (e << np.int32(23))).view(np.float32) - _ONE  # exact
    log, a, b = np.empty((3, len(g)), dtype=np.float32)
    _polynomial(g, (L7, L6, L5, L4, L3, L2, L1, L0), out=log)
    log *= g
    exponent = (np.int32(33) - e).astype(np.float32)
    log += exponent * LN4_LOW
    exponent *= LN4_HIGH
    t = np.sqrt(exponent + log)
    _polynomial(t, (A2, A1, A0), out=a)
    _polynomial(t, (B3, B2, B1, B0), out=b)
    a /= b
    a -= t
    return a
