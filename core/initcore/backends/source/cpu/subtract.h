// Differences of doubles, rounded to integers: a step of the scheme `orthogonal`.
#pragma once
#include "machine.h"

namespace {

void subtract_rounded(double* whole, u64 stride, const double* product, u64 rows, u64 columns) {
    // A double of this size has no fraction, so that the sum is rounded to an integer, half to
    // even. The differences are below 2^31, and exact, as the proof in generate/haar.py says.
    const double shift = 6755399441055744.0;  // 1.5 * 2^52
    for (u64 row = 0; row < rows; ++row) {
        double* __restrict out = whole + row * stride;
        const double* __restrict part = product + row * columns;
        for (u64 j = 0; j < columns; ++j) out[j] = ((out[j] - part[j]) + shift) - shift;
    }
}

}  // namespace
