// z(w) for the words of a warp: the central formula on all, and the tail formula on those that are
// in a tail, collected first.
//
// A word in 26 is in a tail. Of the 32 words that a warp works on at a time one or more nearly
// always is, so that a warp which branches pays for both formulas. Of the 512 words of a tile
// about 20 are: collected, they take one pass of the tail formula, one a lane.
#pragma once
#include "device.h"

#include "../laws.h"
#include "../words.h"

namespace {

// Lanes of a warp, warps of a block (cupy.py starts 32 * WARPS threads), and Philox counters that
// a lane works on at a time.
constexpr u32 LANES = 32;
constexpr u32 WARPS = 8;
constexpr u32 QUADS = 4;

// Four neighbours in a run: the words of one counter, and later their z, as bits.
struct alignas(16) Quad {
    u32 lane[4];
};

// What the lanes of a warp share. Place 4 * (LANES * q + lane) + i has word i of the lane's quad q.
struct Tile {
    Quad words[QUADS * LANES];
    Quad z[QUADS * LANES];
    u16 tails[4 * QUADS * LANES];  // places of the words in a tail, in any order
    u32 found;                     // how many there are; zero before and after
};

#ifdef HOST
Tile* tiles_of_block();
#else
FUNCTION Tile* tiles_of_block() {
    __shared__ Tile tiles[WARPS];
    return tiles;
}
#endif

// The tile of this warp, in which nothing has been found.
FUNCTION Tile& tile_of_warp() {
    Tile& tile = tiles_of_block()[threadIdx.x / LANES];
    if (threadIdx.x % LANES == 0) tile.found = 0;
    __syncwarp();
    return tile;
}

FUNCTION u32 central_quantile(u32 w) {
    const Side side = side_of(w);
    return bits_of(with_sign(central(side.m, side.k), side.sign));
}
FUNCTION u32 tail_quantile(u32 w) {
    const Side side = side_of(w);
    return bits_of(with_sign(tail(side.m), side.sign));
}

// Makes each word of the warp its z. All lanes of the warp call it together.
FUNCTION void quantiles(Quad* quads, Tile& tile) {
    const u32 lane = threadIdx.x % LANES;
    // Bit 4 * QUADS - 1 - j: whether the lane's word j is in a tail.
    u32 mine = 0;
    for (u32 q = 0; q < QUADS; ++q) {
        tile.words[LANES * q + lane] = quads[q];
        for (u32 i = 0; i < 4; ++i)
            mine = mine << 1 | (u32)(side_of(quads[q].lane[i]).m - TAIL) >> 31;
    }
    u32 next = atomicAdd(&tile.found, (u32)__popc(mine));
    while (mine) {
        const u32 zeros = (u32)__clz((int)mine);
        mine ^= 0x80000000u >> zeros;
        tile.tails[next++] = (u16)(zeros << 5 | lane);
    }
    for (u32 q = 0; q < QUADS; ++q) {
        Quad z;
        for (u32 i = 0; i < 4; ++i) z.lane[i] = central_quantile(quads[q].lane[i]);
        tile.z[LANES * q + lane] = z;
    }
    __syncwarp();
    const u32 found = tile.found;
    for (u32 j = lane; j < found; j += LANES) {
        const u32 entry = tile.tails[j], element = (entry >> 5) - (32 - 4 * QUADS);
        const u32 place = LANES * (element >> 2) + (entry & 31);
        tile.z[place].lane[element & 3] = tail_quantile(tile.words[place].lane[element & 3]);
    }
    __syncwarp();
    // After this, no lane reads it before the next tile has been collected.
    if (lane == 0) tile.found = 0;
    for (u32 q = 0; q < QUADS; ++q) quads[q] = tile.z[LANES * q + lane];
    __syncwarp();
}

}  // namespace
