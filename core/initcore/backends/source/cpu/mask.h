// Which of 64 words are in a tail, one bit a word. Compilers do not turn loops into the
// instructions for masks, and without these the search takes ten times as long.
#pragma once
#include "machine.h"

#include "../quantile.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

// m < TAIL holds for the TAIL smallest and the TAIL largest words. Modulo 2^32 these are 2 TAIL
// consecutive words, so one addition and one comparison decide.
FUNCTION bool in_tail(u32 w) { return w + (u32)TAIL < 2 * (u32)TAIL; }

#if defined(__AVX512F__)

FUNCTION u64 mask_of_tails(const u32* words) {
    u64 mask = 0;
    for (int i = 0; i < 64; i += 16) {
        const __m512i w = _mm512_loadu_si512((const void*)(words + i));
        const __m512i moved = _mm512_add_epi32(w, _mm512_set1_epi32(TAIL));
        mask |= (u64)_mm512_cmplt_epu32_mask(moved, _mm512_set1_epi32(2 * TAIL)) << i;
    }
    return mask;
}

#elif defined(__AVX2__)

// Comparisons are of signed numbers here: both sides are moved by 2^31.
FUNCTION u64 mask_of_tails(const u32* words) {
    u64 mask = 0;
    const __m256i limit = _mm256_set1_epi32(2 * TAIL + (-2147483647 - 1));
    for (int i = 0; i < 64; i += 8) {
        const __m256i w = _mm256_loadu_si256((const __m256i*)(words + i));
        const __m256i moved = _mm256_add_epi32(w, _mm256_set1_epi32(TAIL + (-2147483647 - 1)));
        const __m256i below = _mm256_cmpgt_epi32(limit, moved);
        mask |= (u64)(u32)_mm256_movemask_ps(_mm256_castsi256_ps(below)) << i;
    }
    return mask;
}

#elif defined(__SSE2__)

FUNCTION u64 mask_of_tails(const u32* words) {
    u64 mask = 0;
    const __m128i limit = _mm_set1_epi32(2 * TAIL + (-2147483647 - 1));
    for (int i = 0; i < 64; i += 4) {
        const __m128i w = _mm_loadu_si128((const __m128i*)(words + i));
        const __m128i moved = _mm_add_epi32(w, _mm_set1_epi32(TAIL + (-2147483647 - 1)));
        const __m128i below = _mm_cmplt_epi32(moved, limit);
        mask |= (u64)(u32)_mm_movemask_ps(_mm_castsi128_ps(below)) << i;
    }
    return mask;
}

#elif defined(__aarch64__)

// One bit of each lane is kept, and the sum over the lanes joins them.
FUNCTION u64 mask_of_tails(const u32* words) {
    u64 mask = 0;
    const uint32x4_t limit = vdupq_n_u32(2 * TAIL), move = vdupq_n_u32(TAIL);
    const uint32x4_t bits = {1, 2, 4, 8};
    for (int i = 0; i < 64; i += 4) {
        const uint32x4_t below = vcltq_u32(vaddq_u32(vld1q_u32(words + i), move), limit);
        mask |= (u64)vaddvq_u32(vandq_u32(below, bits)) << i;
    }
    return mask;
}

#else

FUNCTION u64 mask_of_tails(const u32* words) {
    u64 mask = 0;
    for (int i = 0; i < 64; ++i) mask |= (u64)in_tail(words[i]) << i;
    return mask;
}

#endif

}  // namespace
