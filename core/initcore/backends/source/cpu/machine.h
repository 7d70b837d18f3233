// What the shared headers need of a compiler for CPUs: GCC or Clang, without a standard library.
//
// Build with -ffp-contract=off, or the compiler fuses what must be rounded twice. Everything is
// in unnamed namespaces: one library holds the same functions for several CPUs, and a linker that
// joined them would run AVX-512 on a machine without it.
#pragma once

#define FUNCTION inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 10")
#endif

#include "../types.h"

namespace {

FUNCTION u32 bits_of(float value) {
    u32 bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}
FUNCTION float float_of(u32 bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
FUNCTION u64 bits_of(double value) {
    u64 bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}
FUNCTION double double_of(u64 bits) {
    double value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
FUNCTION float quotient(float a, float b) { return a / b; }
FUNCTION float square_root(float a) { return __builtin_sqrtf(a); }
FUNCTION double square_root(double a) { return __builtin_sqrt(a); }

}  // namespace
