// Vectors of 64-bit lanes, for Philox: what compilers do not find by themselves.
//
// A lane holds a 32-bit number in its lower half. The upper half is undefined, in the results too:
// the form in which CPUs multiply 32 x 32 bits without shuffles.
#pragma once
#include "machine.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

namespace {

typedef u64 Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef u64 UnalignedVector __attribute__((vector_size(VECTOR_BYTES), aligned(8)));

// Lanes of a vector.
constexpr u64 WIDTH = VECTOR_BYTES / 8;

FUNCTION Vector load(const u64* place) { return *(const UnalignedVector*)place; }
FUNCTION void store(u64* place, Vector x) { *(UnalignedVector*)place = x; }

FUNCTION void high_half(Vector product, Vector& x) { x = product >> 32; }
FUNCTION void low_half(Vector product, Vector& x) { x = product; }

// `in_pairs` puts counters into the order for which `store_quads`, which works within each 128
// bits, writes the words of the first counter first.
#if defined(__AVX512F__)

FUNCTION Vector product(Vector x, u32 factor) {
    return (Vector)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(factor));
}
FUNCTION Vector in_pairs(Vector x) {
    return (Vector)_mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), (__m512i)x);
}
FUNCTION void interleave(Vector a, Vector b, Vector& low, Vector& high) {
    low = (Vector)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b);
    high = (Vector)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b);
}

#elif defined(__AVX2__)

FUNCTION Vector product(Vector x, u32 factor) {
    return (Vector)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(factor));
}
FUNCTION Vector in_pairs(Vector x) {
    return (Vector)_mm256_permute4x64_epi64((__m256i)x, 0xD8);  // 0, 2, 1, 3
}
FUNCTION void interleave(Vector a, Vector b, Vector& low, Vector& high) {
    low = (Vector)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b);
    high = (Vector)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b);
}

#elif defined(__SSE2__)

FUNCTION Vector product(Vector x, u32 factor) {
    return (Vector)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(factor));
}
FUNCTION Vector in_pairs(Vector x) { return x; }
FUNCTION void interleave(Vector a, Vector b, Vector& low, Vector& high) {
    low = (Vector)_mm_unpacklo_epi64((__m128i)a, (__m128i)b);
    high = (Vector)_mm_unpackhi_epi64((__m128i)a, (__m128i)b);
}

#elif defined(__aarch64__)

FUNCTION Vector product(Vector x, u32 factor) {
    return (Vector)vmull_u32(vmovn_u64((uint64x2_t)x), vdup_n_u32(factor));
}
FUNCTION Vector in_pairs(Vector x) { return x; }
FUNCTION void interleave(Vector a, Vector b, Vector& low, Vector& high) {
    low = (Vector)vzip1q_u64((uint64x2_t)a, (uint64x2_t)b);
    high = (Vector)vzip2q_u64((uint64x2_t)a, (uint64x2_t)b);
}

#else

FUNCTION Vector product(Vector x, u32 factor) { return (x & 0xFFFFFFFFu) * (u64)factor; }
FUNCTION Vector in_pairs(Vector x) { return x; }
FUNCTION void interleave(Vector a, Vector b, Vector& low, Vector& high) {
    low = Vector{a[0], b[0]};
    high = Vector{a[1], b[1]};
}

#endif

// Two 32-bit numbers as one of 64 bits.
FUNCTION Vector joined(Vector low, Vector high) { return (low & 0xFFFFFFFFu) | high << 32; }

}  // namespace
