// What CUDA has built in and C++ does not, as the source in backends/source/cuda needs it.
//
// Build with -ffp-contract=off, or the host's compiler fuses what must be rounded twice.
#pragma once
#include <cmath>
#include <cstring>

#define HOST
#define __device__
#define __forceinline__ inline

// The bits of a value as one of another type of the same size.
template <typename To, typename From>
static inline To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "another size");
    To bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline unsigned int __float_as_uint(float value) { return bits_as<unsigned int>(value); }
static inline float __uint_as_float(unsigned int bits) { return bits_as<float>(bits); }
static inline long long __double_as_longlong(double value) { return bits_as<long long>(value); }
static inline double __longlong_as_double(long long bits) { return bits_as<double>(bits); }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline double __dsqrt_rn(double a) { return std::sqrt(a); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
