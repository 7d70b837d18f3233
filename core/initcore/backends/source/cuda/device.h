// What the shared headers need of CUDA.
#pragma once

#define FUNCTION __device__ __forceinline__
#define UNROLLED
#include "../types.h"

namespace {

FUNCTION u32 bits_of(float value) { return __float_as_uint(value); }
FUNCTION float float_of(u32 bits) { return __uint_as_float(bits); }
FUNCTION float square_root(float a) { return __fsqrt_rn(a); }
FUNCTION u64 bits_of(double value) { return (u64)__double_as_longlong(value); }
FUNCTION double double_of(u64 bits) { return __longlong_as_double((i64)bits); }
FUNCTION double square_root(double a) { return __dsqrt_rn(a); }

// 1 / b to one unit in the last place: one instruction, whose last bit a device may choose.
#ifdef HOST
float reciprocal_estimate(float b);
#else
FUNCTION float reciprocal_estimate(float b) {
    float estimate;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(estimate) : "f"(b));
    return estimate;
}
#endif

// a / b to nearest, for the two quotients of quantile.h and no others.
//
// The compiler's division first checks for operands whose quotient or remainder leaves float32's
// range. Those of quantile.h never do, so this is the rest of that division: the only place where
// operations are fused. tests/core/test_cuda_division.py compares it with the IEEE quotient for
// every a and b that quantile.h divides, and for every estimate within one unit in the last place.
FUNCTION float quotient(float a, float b) {
    const float estimate = reciprocal_estimate(b);
    const float reciprocal = __fmaf_rn(__fmaf_rn(-b, estimate, 1.0f), estimate, estimate);
    const float near = __fmul_rn(a, reciprocal);
    return __fmaf_rn(__fmaf_rn(-b, near, a), reciprocal, near);
}

}  // namespace
