// Samples of a block: from words to the output's element type.
#pragma once
#include "block.h"
#include "interface.h"
#include "mask.h"

#include "../elements.h"
#include "../laws.h"

namespace {

// Collects the places of words in a tail, in `places`, which has room for four more than there are
// words; returns how many there are.
//
// Of 64 words two or three are in a tail. The first four are collected without a branch, which
// would be mispredicted nearly each time.
FUNCTION u32 places_of_tails(const u32* __restrict words, u32 count, u32* __restrict places) {
    u32 found = 0, first = 0;
    for (; first + 64 <= count; first += 64) {
        u64 left = mask_of_tails(words + first);
        const u32 after = found + (u32)__builtin_popcountll(left);
        for (int i = 0; i < 4; ++i) {
            // Of no bits the result is undefined and never read.
            places[found + i] = first + (u32)__builtin_ctzll(left | 1ull << 63);
            left &= left - 1;
        }
        for (found += 4; found < after; ++found) {
            places[found] = first + (u32)__builtin_ctzll(left);
            left &= left - 1;
        }
        found = after;
    }
    for (; first < count; ++first) {
        places[found] = first;
        found += in_tail(words[first]);
    }
    return found;
}

// z(w) of a word that is not in a tail, and of one that is.
FUNCTION float central_quantile(u32 w) {
    const Side side = side_of(w);
    return with_sign(central(side.m, side.k), side.sign);
}
FUNCTION float tail_quantile(u32 w) {
    const Side side = side_of(w);
    return with_sign(tail(side.m), side.sign);
}

// A law that takes z(w): the central formula on every word, without a branch, then the tail
// formula on the words in a tail, which are few.
template <typename Law, typename Type>
FUNCTION void emit_quantiles(u32* __restrict words, u32 count, const Parameters& parameters,
                             typename Type::Storage* __restrict out) {
    const Parameters p = parameters;
    u32 places[BLOCK + 4], picked[BLOCK];
    typename Type::Storage values[BLOCK];
    for (u32 j = 0; j < count; ++j)
        out[j] = Type::encode(Law::sample(central_quantile(words[j]), p));
    const u32 found = places_of_tails(words, count, places);
    for (u32 i = 0; i < found; ++i) picked[i] = words[places[i]];
    for (u32 i = 0; i < found; ++i)
        values[i] = Type::encode(Law::sample(tail_quantile(picked[i]), p));
    for (u32 i = 0; i < found; ++i) out[places[i]] = values[i];
}

template <typename Law, typename Type>
struct Emit {
    static FUNCTION void block(u32* __restrict words, u32 count, const Parameters& p,
                               typename Type::Storage* __restrict out) {
        emit_quantiles<Law, Type>(words, count, p, out);
    }
};

template <typename Type>
struct Emit<TruncNormal, Type> {
    static FUNCTION void block(u32* __restrict words, u32 count, const Parameters& parameters,
                               typename Type::Storage* __restrict out) {
        const Parameters p = parameters;
        // A width of 2^32 is the whole range, where each word stays as it is. All others have 32
        // bits.
        const u32 width = (u32)p.width;
        if (width)
            for (u32 j = 0; j < count; ++j) words[j] = within(words[j], p.first, width);
        emit_quantiles<TruncNormal, Type>(words, count, p, out);
    }
};

template <typename Type>
struct Emit<Uniform, Type> {
    static FUNCTION void block(const u32* __restrict words, u32 count, const Parameters& parameters,
                               typename Type::Storage* __restrict out) {
        const Parameters p = parameters;
        for (u32 j = 0; j < count; ++j) out[j] = Type::encode(Uniform::sample(words[j], p));
    }
};

struct Word {};

template <>
struct Emit<Word, U32> {
    static FUNCTION void block(const u32* __restrict words, u32 count, const Parameters&,
                               u32* __restrict out) {
        for (u32 j = 0; j < count; ++j) out[j] = words[j];
    }
};

FUNCTION Parameters parameters_of(const Job& job) {
    return Parameters{job.width, job.first, job.centre, job.scale, job.low, job.high};
}

template <typename Law, typename Type>
__attribute__((noinline)) void emit_all(const Job& job, Words& source, u64 left, void* target) {
    typedef typename Type::Storage Storage;
    const Parameters p = parameters_of(job);
    Storage* out = (Storage*)target;
    while (left) {
        u64 count;
        u32* words = source.next(left, count, (const char*)out, sizeof(Storage));
        Emit<Law, Type>::block(words, (u32)count, p, out);
        out += count;
        left -= count;
    }
}

template <typename Law>
FUNCTION void emit_by(const Job& job, Words& source, u64 count, void* out) {
    switch (job.dtype) {
        case TYPE_F64: return emit_all<Law, F64>(job, source, count, out);
        case TYPE_F32: return emit_all<Law, F32>(job, source, count, out);
        case TYPE_F16: return emit_all<Law, F16>(job, source, count, out);
        case TYPE_BF16: return emit_all<Law, BF16>(job, source, count, out);
        case TYPE_F8_E4M3: return emit_all<Law, F8_E4M3>(job, source, count, out);
        case TYPE_F8_E5M2: return emit_all<Law, F8_E5M2>(job, source, count, out);
    }
}

void emit_from(const Job& job, Words& source, u64 count, void* out) {
    switch (job.law) {
        case LAW_UNIFORM: return emit_by<Uniform>(job, source, count, out);
        case LAW_NORMAL: return emit_by<Normal>(job, source, count, out);
        case LAW_TRUNC_NORMAL: return emit_by<TruncNormal>(job, source, count, out);
        case LAW_WORDS: return emit_all<Word, U32>(job, source, count, out);
    }
}

void fill(const Job* job, u64 first, u64 count, void* out) {
    Words source(*job, first);
    emit_from(*job, source, count, out);
}

void fill_pieces(const Piece* pieces, u64 count) {
    for (u64 i = 0; i < count; ++i) fill(&pieces[i].job, 0, pieces[i].count, pieces[i].out);
}

void emit(const Job* job, const u32* words, u64 count, void* out) {
    Words source(*job, words);
    emit_from(*job, source, count, out);
}

}  // namespace
