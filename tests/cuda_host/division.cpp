// Divides every pair of operands of quantile.h as source/cuda/device.h does, and compares with the
// IEEE quotient. Prints how many pairs there were, and how many results differed, as JSON.
//
// Build with -ffp-contract=off.

#include <cstdio>
#include <cstring>

#include "builtins.h"

// device.h names its division `quotient`; quantile.h divides by whatever has that name.
#define quotient quotient_of_device
#include "cuda/device.h"
#undef quotient

static unsigned long long pairs, wrong, wrong_without_refining;
static float estimate;

namespace {

float reciprocal_estimate(float) { return estimate; }

float quotient(float a, float b) {
    const float expected = a / b, nearest = 1.0f / b;
    ++pairs;
    // A device's estimate is off by one unit in the last place at most: it is one of these three.
    for (int off = -1; off <= 1; ++off) {
        estimate = float_of(bits_of(nearest) + (u32)off);
        wrong += bits_of(quotient_of_device(a, b)) != bits_of(expected);
        const float near = a * estimate;
        const float once = std::fma(std::fma(-b, near, a), estimate, near);
        wrong_without_refining += bits_of(once) != bits_of(expected);
    }
    return expected;
}

}  // namespace

#include "quantile.h"

static void report(const char* name, const char* end) {
    std::printf("\"%s\": {\"pairs\": %llu, \"wrong\": %llu, \"wrong_without_refining\": %llu}%s",
                name, pairs, wrong, wrong_without_refining, end);
    pairs = wrong = wrong_without_refining = 0;
}

int main() {
    volatile float sink = 0;
    std::printf("{");
    // central() divides numbers that follow from (float)m: one m for each float.
    u32 before = 0;
    for (u32 m = (u32)TAIL; m < 0x80000000u; ++m) {
        // Above 2^24 a float's neighbours are 2, 4, 8 ... apart: most m round to the last float.
        const u32 bits = bits_of((float)(i32)m);
        if (bits == before) continue;
        before = bits;
        sink = central((i32)m, (i32)m ^ 0x7FFFFFFF);
    }
    report("central", ", ");
    // tail() divides numbers that follow from (float)(2 m + 1).
    before = 0;
    for (u32 m = 0; m < (u32)TAIL; ++m) {
        const u32 bits = bits_of((float)(i32)(m + m + 1));
        if (bits == before) continue;
        before = bits;
        sink = tail((i32)m);
    }
    report("tail", "}\n");
    return sink != sink;
}
