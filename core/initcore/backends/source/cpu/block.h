// Words of a block: from positions in the global tensor to Philox's output.
#pragma once
#include "interface.h"
#include "vectors.h"

#include "../words.h"

namespace {

// Words of a block: everything between them and the output fits the innermost cache.
constexpr u64 BLOCK = 2048;
constexpr u64 COUNTERS = BLOCK / 4;

// Runs up to this long are worked on element by element, each with a counter of its own.
constexpr u64 SINGLE = 2;

// Counters between two prefetches of the output: a few vectors.
constexpr u64 STRETCH = 64;

// Words that `copy` moves at a time.
constexpr u64 COPIED = 16;

// A place in runs of equal length.
struct Place {
    const u64* starts;
    u64 length;
    u64 run, offset;

    FUNCTION Place(const u64* starts, u64 length, u64 first)
        : starts(starts), length(length), run(first / length), offset(first % length) {}

    FUNCTION u64 index() const { return starts[run] + offset; }
    FUNCTION u64 left_in_run() const { return length - offset; }
    FUNCTION void advance(u64 count) {  // no further than the run's end
        offset += count;
        if (offset == length) {
            offset = 0;
            ++run;
        }
    }
};

FUNCTION u64 least(u64 a, u64 b) { return a < b ? a : b; }

// Copies `size` words, at least one, and up to COPIED - 1 beyond them: runs are short and of any
// length, so a loop of single words would be mispredicted where each of them ends.
FUNCTION void copy(const u32* __restrict source, u32* __restrict target, u64 size) {
    if (size <= 4)
        __builtin_memcpy(target, source, 4 * 4);
    else
        for (u64 j = 0; j < size; j += COPIED) __builtin_memcpy(target + j, source + j, 4 * COPIED);
}

// The four words of each counter, a whole number of vectors. The stream is a copy, so that no store
// can change it and compilers keep its keys in registers.
FUNCTION void philox(const u64* __restrict counters, u64 count, u64* __restrict quads,
                     const Stream stream) {
    for (u64 j = 0; j < count; j += WIDTH) {
        const Vector counter = in_pairs(load(counters + j));
        Vector x0 = counter, x1 = counter >> 32;
        Vector x2 = Vector{} + stream.d2, x3 = Vector{} + stream.d3;
        ten_rounds(x0, x1, x2, x3, stream.d0, stream.d1);
        Vector low, high;
        interleave(joined(x0, x1), joined(x2, x3), low, high);
        store(quads + 2 * j, low);
        store(quads + 2 * j + WIDTH, high);
    }
}

// The word at each global index, with one Philox for each, a whole number of vectors. The word
// takes the index's place.
FUNCTION void philox_of_each(u64* __restrict index, u64 count, const Stream stream) {
    for (u64 j = 0; j < count; j += WIDTH) {
        const Vector i = load(index + j);
        Vector x0 = i >> 2, x1 = i >> 34, x2 = Vector{} + stream.d2, x3 = Vector{} + stream.d3;
        ten_rounds(x0, x1, x2, x3, stream.d0, stream.d1);
        const Vector even = (i & 2) != 0 ? x2 : x0, odd = (i & 2) != 0 ? x3 : x1;
        store(index + j, (i & 1) != 0 ? odd : even);
    }
}

// The words of a job, block by block: those of its stream, or others that are given.
class Words {
   public:
    Words(const Job& job, u64 first)
        : given_(nullptr),
          place_(job.starts, job.length, first),
          stream_{job.d0, job.d1, job.d2, job.d3} {}
    Words(const Job& job, const u32* given) : Words(job, u64(0)) { given_ = given; }

    // The next words, `limit` at most; sets `count` to how many. They stay until the next call.
    //
    // `out` is where the block goes, `item` bytes an element: its lines are prefetched for
    // writing between two stretches of Philox, while the memory is idle. Without it the stores
    // to a large output wait for memory.
    __attribute__((noinline)) u32* next(u64 limit, u64& count, const char* out, u64 item) {
        limit = least(limit, BLOCK);
        if (given_) {
            // Copied, since a law may change them.
            for (u64 j = 0; j < limit; ++j) packed_[j] = given_[j];
            given_ += limit;
            count = limit;
            return packed_;
        }
        if (place_.length <= SINGLE) {
            if (place_.length == 1) {
                for (u64 j = 0; j < limit; ++j) index_[j] = place_.starts[place_.run + j];
                place_.run += limit;
            } else {
                for (u64 j = 0; j < limit; ++j) {
                    index_[j] = place_.index();
                    place_.advance(1);
                }
            }
            philox_of_each(index_, (limit + WIDTH - 1) / WIDTH * WIDTH, stream_);
            for (u64 j = 0; j < limit; ++j) packed_[j] = (u32)index_[j];
            count = limit;
            return packed_;
        }
        u64 used = 0, pieces = 0;
        count = 0;
        while (count < limit && used < COUNTERS) {
            const u64 index = place_.index(), lane = index & 3;
            const u64 size =
                least(least(place_.left_in_run(), limit - count), 4 * (COUNTERS - used) - lane);
            const u64 counters = (lane + size + 3) >> 2, counter = index >> 2;
            for (u64 j = 0; j < counters; ++j) counters_[used + j] = counter + j;
            sources_[pieces] = (u32)(4 * used + lane);
            sizes_[pieces] = (u32)size;
            used += counters;
            count += size;
            ++pieces;
            place_.advance(size);
        }
        // Whole vectors: a remainder would be computed element by element.
        used = least((used + 31) & ~31ull, COUNTERS);
        const u64 bytes = count * item, share = bytes * STRETCH / used + 1;
        u64 claimed = 0;
        for (u64 at = 0; at < used; at += STRETCH) {
            for (u64 line = claimed; line < claimed + share; line += 64)
                __builtin_prefetch(out + line, 1, 3);
            claimed += share;
            philox(counters_ + at, least(used - at, STRETCH), quads_ + 2 * at, stream_);
        }
        u32* words = (u32*)quads_;
        if (pieces == 1) return words + sources_[0];
        u32* target = packed_;
        for (u64 i = 0; i < pieces; ++i) {
            copy(words + sources_[i], target, sizes_[i]);
            target += sizes_[i];
        }
        return packed_;
    }

   private:
    const u32* given_;
    Place place_;
    const Stream stream_;
    // Counters beyond those in use hold anything: their words are made and never read.
    union {
        u64 counters_[COUNTERS];
        u64 index_[BLOCK];
    };
    alignas(64) u64 quads_[2 * COUNTERS + COPIED / 2];
    alignas(64) u32 packed_[BLOCK + COPIED];
    u32 sources_[COUNTERS], sizes_[COUNTERS];
};

}  // namespace
