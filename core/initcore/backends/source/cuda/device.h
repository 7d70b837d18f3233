// What the shared headers need of CUDA.
#pragma once

#define FUNCTION __device__ __forceinline__
#define UNROLLED
#include "../types.h"

namespace {

FUNCTION u32 bits_of(float value) { return __float_as_uint(value); }
FUNCTION float float_of(u32 bits) { return __uint_as_float(bits); }
FUNCTION float quotient(float a, float b) { return __fdiv_rn(a, b); }
FUNCTION float square_root(float a) { return __fsqrt_rn(a); }

}  // namespace
