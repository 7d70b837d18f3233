"""Float32 samples of a block in the output's element type, rounded to nearest, ties to even.

Integer operations on the bits: LLVM's own conversions call a library where the CPU has
no instruction for them. Samples are never NaN.
"""

# No `from __future__ import annotations`: Numba compiles these functions, untyped.
import numpy as np
from numba import njit

from initcore.backends.numba._intrinsics import bits_of, float_of, widest_vectors
from initcore.backends.numba._options import OPTIONS

_i = np.int32
_u = np.uint32

_REST = _i(2**31 - 1)


@njit(**OPTIONS)
def to_double(samples, out):  # type: ignore[no-untyped-def]
    widest_vectors()
    for j in range(samples.size):
        out[j] = np.float64(samples[j])


@njit(**OPTIONS)
def to_bfloat16(samples, out):  # type: ignore[no-untyped-def]
    widest_vectors()
    for j in range(samples.size):
        bits = _u(bits_of(samples[j]))
        even = _u(_u(bits >> _u(16)) & _u(1))
        out[j] = np.uint16(_u(bits + _u(even + _u(0x7FFF))) >> _u(16))


@njit(forceinline=True, **OPTIONS)
def to_small(samples, out, mantissa, exponent, overflow, sign_shift):  # type: ignore[no-untyped-def]
    """A binary type of `mantissa` bits whose least normal number is 2^exponent.

    Codes grow with the values, so that a carry out of the mantissa is right as it is;
    the greatest is `overflow`, infinity or, where there is none, NaN.
    """
    widest_vectors()
    shift = _i(23 - mantissa)
    ulp = _i(1) << shift
    # Added to a subnormal number, this leaves its code in the lowest bits, rounded.
    magic = float_of(_i((exponent + shift + 127) << 23))
    least = _i((exponent + 127) << 23)
    lift = _i((exponent + 126) << 23)
    for j in range(samples.size):
        bits = bits_of(samples[j])
        size = _i(bits & _REST)
        odd = _i(_i(size >> shift) & _i(1))
        normal = _i(_i(_i(size - lift) + _i(_i(ulp >> _i(1)) - _i(1)) + odd) >> shift)
        small = _i(bits_of(float_of(size) + magic) - bits_of(magic))
        code = small if size < least else normal
        code = code if code < overflow else overflow
        sign = _i(_u(_u(bits) >> _u(31)) << _u(sign_shift))
        out[j] = _i(code | sign)
