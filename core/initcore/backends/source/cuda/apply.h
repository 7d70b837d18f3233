// Functions of given doubles, rounded to the output's element type: the elements of `apply`.
#pragma once
#include "device.h"

#include "../doubles.h"
#include "../steps.h"

namespace {

FUNCTION double applied(const Step& step, double x) {
    switch (step.function) {
        case FUNCTION_ADD: return Add::of(x, step.a, step.b);
        case FUNCTION_MULTIPLY: return Multiply::of(x, step.a, step.b);
        case FUNCTION_CLAMP: return Clamp::of(x, step.a, step.b);
        case FUNCTION_ABS: return Abs::of(x, step.a, step.b);
        case FUNCTION_SQUARE: return Square::of(x, step.a, step.b);
        case FUNCTION_SQRT: return Sqrt::of(x, step.a, step.b);
        case FUNCTION_RECIPROCAL: return Reciprocal::of(x, step.a, step.b);
        case FUNCTION_EXP: return Exp::of(x, step.a, step.b);
        case FUNCTION_EXPM1: return Expm1::of(x, step.a, step.b);
        case FUNCTION_LOG: return Log::of(x, step.a, step.b);
        case FUNCTION_LOG1P: return Log1p::of(x, step.a, step.b);
        case FUNCTION_SOFTPLUS: return Softplus::of(x, step.a, step.b);
        case FUNCTION_INVERSE_SOFTPLUS: return InverseSoftplus::of(x, step.a, step.b);
    }
    return x;
}

// A thread makes an element at a time. All threads of a warp go through the same functions.
template <typename Type>
FUNCTION void apply(const Step* steps, u64 length, const double* values, u64 count,
                    typename Type::Storage* out) {
    const u64 threads = (u64)gridDim.x * blockDim.x;
    for (u64 j = (u64)blockIdx.x * blockDim.x + threadIdx.x; j < count; j += threads) {
        double x = values[j];
        for (u64 i = 0; i < length; ++i) x = applied(steps[i], x);
        out[j] = OfDouble<Type>::encode(x);
    }
}

}  // namespace
