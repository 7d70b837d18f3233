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

from typing import cast

import numpy as np
from numpy.typing import NDArray

# A name, since `cast` would make the type anew at every call.
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
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


def normal_quantile(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """z of each word, as float32 of the same shape."""
    # In place, where a new array would cost more than the operation.
    s = (words ^ np.uint32(0x80000000)).view(np.int32)  # w - 2^31 = 2^32 (u - 1/2) - 1/2
    k = s >> np.int32(31)
    k ^= s  # s, or ~s where negative: the same for w and ~w
    m = k ^ np.int32(0x7FFFFFFF)
    z = _central(m, k)
    in_tail = np.nonzero(m < TAIL)
    z[in_tail] = _tail(m[in_tail])
    s &= _SIGN
    bits = z.view(np.int32)
    bits |= s
    return z


def _central(m: NDArray[np.int32], k: NDArray[np.int32]) -> NDArray[np.float32]:
    """|z| for p = (m + 1/2) / 2^32 and q = (k + 1/2) / 2^32.

    That is K C0 + (K K K) (N / D), with r = p - p p.
    """
    big_k = k.astype(np.float32)
    big_k += _HALF
    p = m.astype(np.float32)
    p *= SCALE  # the missing half matters only in the tail
    r = p - p * p
    n = _polynomial(r, (N4, N3, N2, N1, N0))
    d = _polynomial(r, (D4, D3, D2, D1, D0))
    n /= d
    cube = big_k * big_k
    cube *= big_k
    cube *= n
    big_k *= C0
    big_k += cube
    return big_k


def _polynomial(r: _F32, coefficients: tuple[np.float32, ...]) -> _F32:
    """By Horner's rule, the highest power first."""
    first, *rest, last = coefficients
    value = r * first
    for coefficient in rest:
        value += coefficient
        value *= r
    value += last
    return value


def _tail(m: NDArray[np.int32]) -> NDArray[np.float32]:
    """|z| for p = (m + 1/2) / 2^32 with m < TAIL."""
    bits = (m + m + np.int32(1)).astype(np.float32).view(np.int32)  # 2^33 p = 2^e (1 + g)
    e = (bits - SQRT_HALF_BITS) >> np.int32(23)
    g = (bits - (e << np.int32(23))).view(np.float32) - _ONE  # exact
    log = ((((((L7 * g + L6) * g + L5) * g + L4) * g + L3) * g + L2) * g + L1) * g + L0
    log = log * g
    exponent = (np.int32(33) - e).astype(np.float32)
    t = np.sqrt(exponent * LN4_HIGH + (exponent * LN4_LOW + log))
    a = (A2 * t + A1) * t + A0
    b = ((B3 * t + B2) * t + B1) * t + B0
    return cast(_F32, t - a / b)
