// Element types: what a sample becomes in memory (docs/stream-v1.md, section 7).
#pragma once
#include "types.h"

namespace {

// A type that holds the sample as it is: F32, F64 (which widens it), U32 for words.
template <typename Type>
struct Whole {
    typedef Type Storage;
    template <typename Sample>
    static FUNCTION Storage encode(Sample sample) {
        return (Storage)sample;
    }
};

// A float of EXPONENT and MANTISSA bits below a sign, rounded to nearest, ties to even.
// Integers and one addition, since conversion instructions differ between machines. What
// rounds to more than the largest number becomes OVERFLOW_BITS, which follow that number:
// infinity, or NaN in F8_E4M3, which has no infinity. No sample is NaN.
template <typename Bits, int EXPONENT, int MANTISSA, i32 OVERFLOW_BITS>
struct Rounded {
    typedef Bits Storage;
    static FUNCTION Storage encode(float sample) {
        constexpr int DROPPED = 23 - MANTISSA;
        constexpr i32 REBIAS = 127 - ((1 << (EXPONENT - 1)) - 1);
        const u32 bits = bits_of(sample);
        const i32 size = (i32)(bits & 0x7FFFFFFFu);
        // Just under a half, or a half where the last bit kept is odd, carries exactly when the
        // number must be rounded up. A carry out of the mantissa gives the next number.
        const i32 odd = (size >> DROPPED) & 1;
        i32 code = (size - (REBIAS << 23) + ((1 << (DROPPED - 1)) - 1) + odd) >> DROPPED;
        if (REBIAS != 0) {
            // Below the least normal number: added to the power of two whose last bit is the
            // type's smallest number, the addition rounds, and the code is in the lowest bits.
            // BF16 has float32's exponents, subnormals included, and needs none of this.
            constexpr i32 LEAST = (REBIAS + 1) << 23;
            constexpr u32 LIFT = (u32)(REBIAS + 1 + DROPPED) << 23;
            const i32 small = (i32)(bits_of(float_of((u32)size) + float_of(LIFT)) - LIFT);
            code = size < LEAST ? small : code;
        }
        code = code < OVERFLOW_BITS ? code : OVERFLOW_BITS;
        return (Storage)((u32)code | (bits >> 31) << (EXPONENT + MANTISSA));
    }
};

typedef Whole<double> F64;
typedef Whole<float> F32;
typedef Whole<u32> U32;
typedef Rounded<u16, 5, 10, 0x7C00> F16;
typedef Rounded<u16, 8, 7, 0x7F80> BF16;
typedef Rounded<u8, 4, 3, 0x7F> F8_E4M3;
typedef Rounded<u8, 5, 2, 0x7C> F8_E5M2;

}  // namespace
