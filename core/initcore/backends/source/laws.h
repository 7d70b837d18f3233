// Laws of stream v1: what a draw makes of a word (docs/stream-v1.md, sections 4 to 6).
#pragma once
#include "quantile.h"

namespace {

// What the draws of stream/draws.py need, together. A law ignores what is not its own.
struct Parameters {
    u64 width;      // trunc_normal: the interval of words has this length, 2^32 at most,
    u32 first;      // and begins here
    float centre;   // mid or mean
    float scale;    // half or std
    float low, high;
};

FUNCTION float clamped(float value, const Parameters& p) {
    value = value > p.low ? value : p.low;
    return value < p.high ? value : p.high;
}

struct Uniform {
    static FUNCTION float sample(u32 w, const Parameters& p) {
        return clamped(p.centre + p.scale * symmetric_uniform(w), p);
    }
};

// A law that takes z(w). `word` is the word that z takes, `sample` makes a value of its z.
struct Normal {
    static FUNCTION u32 word(u32 w, const Parameters&) { return w; }
    static FUNCTION float sample(float z, const Parameters& p) { return p.centre + p.scale * z; }
};

// The word of an interval that stands for w. w <= 2^32 - 1 and width <= 2^32: the product fits in
// 64 bits. A Width of 32 bits makes it one instruction.
template <typename Width>
FUNCTION u32 within(u32 w, u32 first, Width width) {
    return first + (u32)(((u64)w * width) >> 32);
}

struct TruncNormal {
    static FUNCTION u32 word(u32 w, const Parameters& p) { return within(w, p.first, p.width); }
    static FUNCTION float sample(float z, const Parameters& p) {
        return clamped(p.centre + p.scale * z, p);
    }
};

}  // namespace
