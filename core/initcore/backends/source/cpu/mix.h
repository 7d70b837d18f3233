// Fingerprints: one Philox of position and bits for each element, and the sums of its output
// (docs/fingerprint-v1.md).
#pragma once
#include "block.h"

namespace {

FUNCTION void sums_of(const u64* __restrict index, const u64* __restrict bits, u64 count, u32 key0,
                      u32 key1, u64& sum0, u64& sum1) {
    Vector lane0{}, lane1{};
    u64 j = 0;
    for (; j + WIDTH <= count; j += WIDTH) {
        Vector x0 = load(index + j), x1 = x0 >> 32, x2 = load(bits + j), x3 = x2 >> 32;
        ten_rounds(x0, x1, x2, x3, key0, key1);
        lane0 += joined(x0, x1);
        lane1 += joined(x2, x3);
    }
    for (u64 lane = 0; lane < WIDTH; ++lane) {
        sum0 += lane0[lane];
        sum1 += lane1[lane];
    }
    for (; j < count; ++j) {
        u32 x0 = (u32)index[j], x1 = (u32)(index[j] >> 32);
        u32 x2 = (u32)bits[j], x3 = (u32)(bits[j] >> 32);
        ten_rounds(x0, x1, x2, x3, key0, key1);
        sum0 += x0 | (u64)x1 << 32;
        sum1 += x2 | (u64)x3 << 32;
    }
}

template <typename Bits>
__attribute__((noinline)) void mix_as(Place place, u64 count, const Bits* data, u32 key0, u32 key1,
                                      u64* sums) {
    alignas(64) u64 index[BLOCK], bits[BLOCK];
    u64 sum0 = 0, sum1 = 0;
    while (count) {
        const u64 block = least(count, BLOCK);
        for (u64 at = 0; at < block;) {
            const u64 size = least(place.left_in_run(), block - at), start = place.index();
            for (u64 j = 0; j < size; ++j) index[at + j] = start + j;
            at += size;
            place.advance(size);
        }
        for (u64 j = 0; j < block; ++j) bits[j] = data[j];
        sums_of(index, bits, block, key0, key1, sum0, sum1);
        data += block;
        count -= block;
    }
    sums[0] = sum0;
    sums[1] = sum1;
}

void mix(const u64* starts, u64 length, u64 first, u64 count, const void* data, u32 item, u32 key0,
         u32 key1, u64* sums) {
    const Place place(starts, length, first);
    switch (item) {
        case 1: return mix_as(place, count, (const u8*)data, key0, key1, sums);
        case 2: return mix_as(place, count, (const u16*)data, key0, key1, sums);
        case 4: return mix_as(place, count, (const u32*)data, key0, key1, sums);
        case 8: return mix_as(place, count, (const u64*)data, key0, key1, sums);
    }
}

}  // namespace
