// Words of stream v1: Philox4x32-10 (docs/stream-v1.md, section 3).
#pragma once
#include "types.h"

namespace {

struct Stream {
    u32 d0, d1, d2, d3;
};

// One 32-bit number. cpu/vectors.h has the same three functions for a vector of numbers.
FUNCTION u64 product(u32 x, u32 factor) { return (u64)x * factor; }
FUNCTION void high_half(u64 product, u32& x) { x = (u32)(product >> 32); }
FUNCTION void low_half(u64 product, u32& x) { x = (u32)product; }

// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": the counter x0 .. x3 under the
// key k0, k1. A Lane is u32, or a vector.
template <typename Lane>
FUNCTION void ten_rounds(Lane& x0, Lane& x1, Lane& x2, Lane& x3, u32 k0, u32 k1) {
    UNROLLED for (int round = 0; round < 10; ++round) {
        const auto a = product(x0, 0xD2511F53u);
        const auto b = product(x2, 0xCD9E8D57u);
        Lane a_high, b_high;
        high_half(a, a_high);
        high_half(b, b_high);
        x0 = b_high ^ x1 ^ k0;
        x2 = a_high ^ x3 ^ k1;
        low_half(b, x1);
        low_half(a, x3);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

}  // namespace
