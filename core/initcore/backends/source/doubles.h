// Doubles: their size, and what they become in an element type (docs/stream-v1.md, section 15).
#pragma once
#include "elements.h"

namespace {

FUNCTION double magnitude(double x) { return double_of(bits_of(x) & 0x7FFFFFFFFFFFFFFFull); }

// The float32 beside a double, toward zero, whose last bit is one if the double lies between two.
// Rounded once more it gives what one rounding of the double would give.
FUNCTION float rounded_to_odd(double value) {
    const float nearest = (float)value;
    const bool beyond = magnitude((double)nearest) > magnitude(value);
    const u32 toward = bits_of(nearest) - (u32)beyond;
    const bool inexact = (double)float_of(toward) != value;
    return float_of(toward | (u32)inexact);
}

// A double in an element type, rounded once. A class of its own: the encode of a type that takes a
// float32 would round a double twice.
template <typename Type>
struct OfDouble {
    static FUNCTION typename Type::Storage encode(double value) {
        return Type::encode(rounded_to_odd(value));
    }
};
template <>
struct OfDouble<F64> {
    static FUNCTION double encode(double value) { return value; }
};
template <>
struct OfDouble<F32> {
    static FUNCTION float encode(double value) { return (float)value; }
};

}  // namespace
