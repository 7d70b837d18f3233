"""Sections 1 and 3 to 7 of docs/stream-v1.md, written from the page alone: from words to bytes."""

import functools
import hashlib
import itertools
import math
import struct
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

Sampler = Callable[[int], float]  # an f32 from a word

# -- section 1: f32 --
# A Python float holds every f32. An f32 operation is the f64 operation followed by one rounding:
# for + - * / sqrt the double rounding is innocuous, because 53 >= 2 * 24 + 2. That theorem is about
# normal results; in the subnormal range of f32 sums and products are exact in f64 anyway, and
# nothing here divides or takes roots down there.


def f32(x: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:  # struct refuses what rounds to infinity
        return math.copysign(math.inf, x)


def parameter(x: float) -> float:
    """f32(x) of a parameter, where -0 becomes +0."""
    return f32(x) + 0.0


def f32_bits(x: float) -> int:
    return int.from_bytes(struct.pack("<f", x), "little", signed=True)


def f32_from_bits(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<i", bits))[0])


def f32_below(x: float) -> float:
    if x == 0:
        return -(2.0**-149)
    bits = f32_bits(x)  # the sign bit makes it negative
    return f32_from_bits(bits - 1 if x > 0 else bits + 1)


def multiply_add(a: float, b: float, c: float) -> float:
    """a * b + c in f32, each of the two operations rounded."""
    return f32(f32(a * b) + c)


def horner(x: float, *coefficients: float) -> float:
    result = coefficients[0]
    for coefficient in coefficients[1:]:
        result = multiply_add(result, x, coefficient)
    return result


# -- section 3: words --


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    low, (c0, c1, c2, c3), (k0, k1) = 0xFFFFFFFF, counter, key
    for _ in range(10):
        p, r = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (r >> 32) ^ c1 ^ k0, r & low, (p >> 32) ^ c3 ^ k1, p & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


class Words:
    def __init__(self, purpose: str, seed: int, stream: str) -> None:
        text = b"initserve.v1/" + purpose.encode() + b"\0" + struct.pack("<Q", seed)
        digest = hashlib.sha256(text + stream.encode()).digest()
        self.d0, self.d1, self.d2, self.d3 = struct.unpack("<4I", digest[:16])
        self.block = functools.lru_cache(maxsize=8)(self._block)

    def _block(self, number: int) -> tuple[int, ...]:
        counter = (number & 0xFFFFFFFF, number >> 32, self.d2, self.d3)
        return philox(counter, (self.d0, self.d1))

    def __getitem__(self, i: int) -> int:
        return self.block(i >> 2)[i % 4]


# -- sections 4 to 6: distributions --


def uniform(a: float, b: float) -> Sampler:
    mid, half = parameter((a + b) / 2), parameter((b - a) / 2)
    low = parameter(a)
    high = max(low, f32_below(parameter(b)))

    def sample(w: int) -> float:
        t = math.ldexp(2 * (w >> 8) + 1 - 2**24, -24)
        return min(max(multiply_add(half, t, mid), low), high)

    return sample


def constants(text: str) -> list[float]:
    return [float.fromhex(constant) for constant in text.split()]


# The highest first, for horner().
N = constants("0x1.986692p-81 0x1.6da414p-78 0x1.7143c2p-80 0x1.d621aap-85 0x1.44565ep-92")
D = constants("0x1.158438p+18 0x1.44ff42p+17 0x1.15dd86p+14 0x1.91b22ap+8 0x1.4f5c22p+0")
L = constants(
    "0x1.9dc9aap-3 -0x1.50481ap-2 0x1.62fd4ep-2 -0x1.96fffep-2 "
    "0x1.ff2ad8p-2 -0x1.555ccep-1 0x1.0000ep+0 -0x1.fffffap+0"
)
A = constants("0x1.484e9ap-3 0x1.4edcd6p+1 0x1.e15b9ap+1")
B = constants("0x1.c290e4p-6 0x1.acff1ep-1 0x1.6e2bc2p+1 0x1.6e147ap+0")
C0, H, G = constants("0x1.40d932p-31 0x1.62e4p+0 0x1.7f7d1cp-19")


def z(w: int) -> float:
    """Section 5."""
    negative = w < 0x80000000  # the sign bit of w xor 0x80000000
    k = w ^ 0x7FFFFFFF if negative else w ^ 0x80000000
    m = k ^ 0x7FFFFFFF
    if m >= 0x5000000:
        big = f32(f32(k) + 0.5)
        p = f32(m) * 2.0**-32
        r = f32(p - f32(p * p))
        ratio = f32(horner(r, *N) / horner(r, *D))
        y = multiply_add(f32(big * f32(big * big)), ratio, f32(big * C0))
    else:
        b = f32_bits(f32(2 * m + 1))
        e = (b - 0x3F3504F3) >> 23
        g = f32(f32_from_bits(b - e * 2**23) - 1)
        el = f32(horner(g, *L) * g)
        scale = float(33 - e)
        t = f32(math.sqrt(multiply_add(scale, H, multiply_add(scale, G, el))))
        y = f32(t - f32(horner(t, *A) / horner(t, *B)))
    return -y if negative else y


def normal(mean: float, std: float) -> Sampler:
    scale, shift = parameter(std), parameter(mean)
    return lambda w: multiply_add(scale, z(w), shift)


def phi_32(x: float) -> int:
    """Phi(x) * 2^32, correctly rounded: Phi(x) = 1/2 + density(x) * (x + x^3/3 + x^5/15 + ...)."""
    if abs(x) > 8:  # Phi(-8) * 2^32 < 0.00001
        return 0 if x < 0 else 2**32
    with localcontext() as context:
        context.prec = 70  # the series has terms of one sign, at most e^32 before the density
        exact = Decimal(x)
        term = total = exact
        for n in itertools.count(3, 2):
            term = term * exact * exact / n
            if abs(term) < Decimal("1e-50"):
                break
            total += term
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        density = (-exact * exact / 2).exp() / (2 * pi).sqrt()
        return math.floor((Decimal("0.5") + density * total) * 2**32 + Decimal("0.5"))


def truncated(mean: float, std: float, a: float, b: float, relative: bool) -> Sampler:
    if relative:
        x_a, x_b = a, b
        a, b = mean + x_a * std, mean + x_b * std
    else:
        x_a, x_b = (a - mean) / std, (b - mean) / std
    first = phi_32(x_a)
    width = phi_32(x_b) - first
    whole, low, high = normal(mean, std), parameter(a), parameter(b)
    return lambda w: min(max(whole(first + ((w * width) >> 32)), low), high)


# -- section 7: element types --

FLOATS = {  # bytes, bias, mantissa bits
    "F64": (8, 1023, 52),
    "F32": (4, 127, 23),
    "F16": (2, 15, 10),
    "BF16": (2, 127, 7),
    "F8_E4M3": (1, 7, 3),
    "F8_E5M2": (1, 15, 2),
}
INTEGERS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}


def item_size(dtype: str) -> int:
    return FLOATS[dtype][0] if dtype in FLOATS else INTEGERS[dtype]


def encode(x: float, dtype: str) -> bytes:
    """A sample or a constant, rounded once; round() of a fraction has ties to even."""
    if dtype in INTEGERS:
        return round(x).to_bytes(INTEGERS[dtype], "little", signed=dtype[0] == "I")
    size, bias, mantissa = FLOATS[dtype]
    magnitude = Fraction(abs(x))
    exponent = max(math.frexp(x)[1] - 1, 1 - bias) if x else 1 - bias
    significand = round(magnitude / Fraction(2) ** (exponent - mantissa))
    # A significand carries into the exponent by itself, and a subnormal one has the exponent 0.
    bits = ((exponent + bias - 1) << mantissa) + significand
    sign = (math.copysign(1, x) < 0) << (8 * size - 1)
    return (bits | sign).to_bytes(size, "little")
