// Words to float32: t(w) and z(w) (docs/stream-v1.md, sections 4 and 5).
//
// Every float operation is one IEEE float32 operation, rounded on its own, in the order written.
#pragma once
#include "types.h"

namespace {

// t(w): an odd multiple of 2^-24 within (-1, 1). The integer has at most 25 bits and is
// odd, but below 2^24 in size: the conversion is exact, and so is the power of two.
FUNCTION float symmetric_uniform(u32 w) {
    const i32 odd = 2 * (i32)(w >> 8) + (1 - (1 << 24));
    return (float)odd * 0x1p-24f;
}

// The names and bits of stream/quantile.py, which explains them.
constexpr float SCALE = 0x1p-32f;
constexpr float C0 = 0x1.40d932p-31f;
constexpr float N0 = 0x1.44565ep-92f;
constexpr float N1 = 0x1.d621aap-85f;
constexpr float N2 = 0x1.7143c2p-80f;
constexpr float N3 = 0x1.6da414p-78f;
constexpr float N4 = 0x1.986692p-81f;
constexpr float D0 = 0x1.4f5c22p+0f;
constexpr float D1 = 0x1.91b22ap+8f;
constexpr float D2 = 0x1.15dd86p+14f;
constexpr float D3 = 0x1.44ff42p+17f;
constexpr float D4 = 0x1.158438p+18f;
constexpr float L0 = -0x1.fffffap+0f;
constexpr float L1 = 0x1.0000ep+0f;
constexpr float L2 = -0x1.555ccep-1f;
constexpr float L3 = 0x1.ff2ad8p-2f;
constexpr float L4 = -0x1.96fffep-2f;
constexpr float L5 = 0x1.62fd4ep-2f;
constexpr float L6 = -0x1.50481ap-2f;
constexpr float L7 = 0x1.9dc9aap-3f;
constexpr float LN4_HIGH = 0x1.62e4p+0f;
constexpr float LN4_LOW = 0x1.7f7d1cp-19f;
constexpr float A0 = 0x1.e15b9ap+1f;
constexpr float A1 = 0x1.4edcd6p+1f;
constexpr float A2 = 0x1.484e9ap-3f;
constexpr float B0 = 0x1.6e147ap+0f;
constexpr float B1 = 0x1.6e2bc2p+1f;
constexpr float B2 = 0x1.acff1ep-1f;
constexpr float B3 = 0x1.c290e4p-6f;
constexpr i32 TAIL = 0x5000000;
constexpr i32 SQRT_HALF_BITS = 0x3F3504F3;

// |z| for p = (m + 1/2) / 2^32 and q = (k + 1/2) / 2^32.
FUNCTION float central(i32 m, i32 k) {
    const float big_k = (float)k + 0.5f;
    const float p = (float)m * SCALE;
    const float r = p - p * p;
    const float n = (((N4 * r + N3) * r + N2) * r + N1) * r + N0;
    const float d = (((D4 * r + D3) * r + D2) * r + D1) * r + D0;
    return big_k * C0 + (big_k * (big_k * big_k)) * quotient(n, d);
}

// |z| for p = (m + 1/2) / 2^32 with m < TAIL.
FUNCTION float tail(i32 m) {
    const i32 bits = (i32)bits_of((float)(m + m + 1));  // 2^33 p = 2^e (1 + g)
    const i32 e = (bits - SQRT_HALF_BITS) >> 23;
    const float g = float_of((u32)(bits - (e << 23))) - 1.0f;  // exact
    float log = ((((((L7 * g + L6) * g + L5) * g + L4) * g + L3) * g + L2) * g + L1) * g + L0;
    log = log * g;
    const float exponent = (float)(33 - e);
    const float t = square_root(exponent * LN4_HIGH + (exponent * LN4_LOW + log));
    const float a = (A2 * t + A1) * t + A0;
    const float b = ((B3 * t + B2) * t + B1) * t + B0;
    return t - quotient(a, b);
}

// A word as z(w) takes it: the sign of z, and the distances k from the middle and m from the end
// of its half, which are the same for w and ~w.
struct Side {
    u32 sign;
    i32 k, m;
};

FUNCTION Side side_of(u32 w) {
    const i32 m = (i32)w ^ ((i32)w >> 31);
    return Side{~w & 0x80000000u, m ^ 0x7FFFFFFF, m};
}

FUNCTION float with_sign(float size, u32 sign) { return float_of(bits_of(size) | sign); }

}  // namespace
