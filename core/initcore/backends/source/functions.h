// Elementary functions of doubles (docs/stream-v1.md, section 15), of the names in
// stream/functions.py: additions, multiplications, divisions and roots alone.
//
// Every operation is one IEEE float64 operation, rounded on its own, in the order written. Arguments
// are in the function's domain, which the check of a plan holds; of others the result is any number.
#pragma once
#include "doubles.h"

namespace {

constexpr double LOG2E = 0x1.71547652b82fep+0;
constexpr double SQRT_HALF = 0x1.6a09e667f3bcdp-1;
constexpr double LN2_HIGH = 0x1.62e42feep-1;
constexpr double LN2_LOW = 0x1.a39ef35793c76p-33;

// Added to a number below 2^51 in size, it leaves the nearest integer in the lowest bits.
constexpr double INTEGERS = 0x1.8p52;

// The greatest integer up to x, which is below 2^51 in size. Not the function of a library or an
// instruction, which not every CPU has.
FUNCTION double floor_of(double x) {
    const double nearest = (x + INTEGERS) - INTEGERS;
    return nearest > x ? nearest - 1.0 : nearest;
}

// 2^k for integers within the exponents of normal doubles, from its bits.
FUNCTION double power_of_two(double k) { return double_of((bits_of(k + INTEGERS) + 1023) << 52); }

// 1/2! + r/3! + ... + r^14/16!: the quotients are those of doubles, since n! is exact.
FUNCTION double exp_tail(double r) {
    double tail = 1.0 / 20922789888000.0;
    tail = tail * r + 1.0 / 1307674368000.0;
    tail = tail * r + 1.0 / 87178291200.0;
    tail = tail * r + 1.0 / 6227020800.0;
    tail = tail * r + 1.0 / 479001600.0;
    tail = tail * r + 1.0 / 39916800.0;
    tail = tail * r + 1.0 / 3628800.0;
    tail = tail * r + 1.0 / 362880.0;
    tail = tail * r + 1.0 / 40320.0;
    tail = tail * r + 1.0 / 5040.0;
    tail = tail * r + 1.0 / 720.0;
    tail = tail * r + 1.0 / 120.0;
    tail = tail * r + 1.0 / 24.0;
    tail = tail * r + 1.0 / 6.0;
    return tail * r + 1.0 / 2.0;
}

// 1/3 + z/5 + ... + z^11/25.
FUNCTION double log_tail(double z) {
    double tail = 1.0 / 25.0;
    tail = tail * z + 1.0 / 23.0;
    tail = tail * z + 1.0 / 21.0;
    tail = tail * z + 1.0 / 19.0;
    tail = tail * z + 1.0 / 17.0;
    tail = tail * z + 1.0 / 15.0;
    tail = tail * z + 1.0 / 13.0;
    tail = tail * z + 1.0 / 11.0;
    tail = tail * z + 1.0 / 9.0;
    tail = tail * z + 1.0 / 7.0;
    tail = tail * z + 1.0 / 5.0;
    return tail * z + 1.0 / 3.0;
}

FUNCTION double exp_of(double x) {
    x = x > -800.0 ? x : -800.0;
    x = x < 800.0 ? x : 800.0;
    const double k = floor_of(x * LOG2E + 0.5);
    const double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    const double half = floor_of(k * 0.5);
    return (1.0 + (r + r * r * exp_tail(r))) * power_of_two(half) * power_of_two(k - half);
}

FUNCTION double expm1_of(double x) {
    const double near_zero = x + x * x * exp_tail(x);
    const double elsewhere = exp_of(x) - 1.0;
    return magnitude(x) < 0.5 ? near_zero : elsewhere;
}

FUNCTION double log_of(double x) {
    // The exponent of a number below the normal ones is in its mantissa.
    const bool small = x < 0x1p-1022;
    const double lifted = x * 0x1p54;
    const u64 bits = bits_of(small ? lifted : x);
    double m = double_of((bits & 0xFFFFFFFFFFFFFull) | 0x3FE0000000000000ull);
    // The biased exponent, as a double from its bits: few CPUs convert integers of 64 bits.
    double e = double_of(bits >> 52 | 0x4330000000000000ull) - 0x1p52;
    e -= small ? 1022.0 + 54.0 : 1022.0;
    const bool low = m < SQRT_HALF;
    m = low ? m + m : m;
    e -= low ? 1.0 : 0.0;
    const double f = m - 1.0;
    double s = f / (2.0 + f);
    const double z = s * s, tail = log_tail(z);
    s = s + s;
    return e * LN2_HIGH + ((s + s * (z * tail)) + e * LN2_LOW);
}

FUNCTION double log1p_of(double x) {
    const double u = 1.0 + x;
    const double elsewhere = log_of(u) + (x - (u - 1.0)) / u;
    return u == 1.0 ? x : elsewhere;
}

// The functions, each with two numbers that `Add`, `Multiply` and `Clamp` take.

struct Add {
    static FUNCTION double of(double x, double a, double) { return x + a; }
};
struct Multiply {
    static FUNCTION double of(double x, double a, double) { return x * a; }
};
struct Clamp {  // an infinite bound is none
    static FUNCTION double of(double x, double a, double b) {
        x = x < a ? a : x;
        return x > b ? b : x;
    }
};
struct Abs {
    static FUNCTION double of(double x, double, double) { return magnitude(x); }
};
struct Square {
    static FUNCTION double of(double x, double, double) { return x * x; }
};
struct Sqrt {
    static FUNCTION double of(double x, double, double) { return square_root(x); }
};
struct Reciprocal {
    static FUNCTION double of(double x, double, double) { return 1.0 / x; }
};
struct Exp {
    static FUNCTION double of(double x, double, double) { return exp_of(x); }
};
struct Expm1 {
    static FUNCTION double of(double x, double, double) { return expm1_of(x); }
};
struct Log {
    static FUNCTION double of(double x, double, double) { return log_of(x); }
};
struct Log1p {
    static FUNCTION double of(double x, double, double) { return log1p_of(x); }
};
struct Softplus {
    static FUNCTION double of(double x, double, double) {
        return (x > 0.0 ? x : 0.0) + log1p_of(exp_of(-magnitude(x)));
    }
};
struct InverseSoftplus {
    static FUNCTION double of(double x, double, double) { return x + log_of(-expm1_of(-x)); }
};

}  // namespace
