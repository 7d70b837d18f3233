// Functions of given doubles, rounded to the output's element type: the elements of `apply`.
#pragma once
#include "interface.h"
#include "machine.h"

#include "../doubles.h"
#include "../steps.h"

namespace {

// Doubles on which all functions of a chain work before the next ones: they stay in the innermost
// cache.
constexpr u64 TOGETHER = 512;

template <typename Function>
__attribute__((noinline)) void apply_to(double* __restrict values, u64 count, double a, double b) {
    for (u64 j = 0; j < count; ++j) values[j] = Function::of(values[j], a, b);
}

FUNCTION void apply_step(const Step& step, double* values, u64 count) {
    switch (step.function) {
        case FUNCTION_ADD: return apply_to<Add>(values, count, step.a, step.b);
        case FUNCTION_MULTIPLY: return apply_to<Multiply>(values, count, step.a, step.b);
        case FUNCTION_CLAMP: return apply_to<Clamp>(values, count, step.a, step.b);
        case FUNCTION_ABS: return apply_to<Abs>(values, count, step.a, step.b);
        case FUNCTION_SQUARE: return apply_to<Square>(values, count, step.a, step.b);
        case FUNCTION_SQRT: return apply_to<Sqrt>(values, count, step.a, step.b);
        case FUNCTION_RECIPROCAL: return apply_to<Reciprocal>(values, count, step.a, step.b);
        case FUNCTION_EXP: return apply_to<Exp>(values, count, step.a, step.b);
        case FUNCTION_EXPM1: return apply_to<Expm1>(values, count, step.a, step.b);
        case FUNCTION_LOG: return apply_to<Log>(values, count, step.a, step.b);
        case FUNCTION_LOG1P: return apply_to<Log1p>(values, count, step.a, step.b);
        case FUNCTION_SOFTPLUS: return apply_to<Softplus>(values, count, step.a, step.b);
        case FUNCTION_INVERSE_SOFTPLUS:
            return apply_to<InverseSoftplus>(values, count, step.a, step.b);
    }
}

template <typename Type>
__attribute__((noinline)) void apply_as(const Step* steps, u64 length, const double* given,
                                        u64 left, void* target) {
    alignas(64) double values[TOGETHER];
    typename Type::Storage* out = (typename Type::Storage*)target;
    while (left) {
        const u64 count = left < TOGETHER ? left : TOGETHER;
        for (u64 j = 0; j < count; ++j) values[j] = given[j];
        for (u64 i = 0; i < length; ++i) apply_step(steps[i], values, count);
        for (u64 j = 0; j < count; ++j) out[j] = OfDouble<Type>::encode(values[j]);
        given += count;
        out += count;
        left -= count;
    }
}

void apply(const Step* steps, u64 length, const double* values, u64 count, u32 dtype, void* out) {
    switch (dtype) {
        case TYPE_F64: return apply_as<F64>(steps, length, values, count, out);
        case TYPE_F32: return apply_as<F32>(steps, length, values, count, out);
        case TYPE_F16: return apply_as<F16>(steps, length, values, count, out);
        case TYPE_BF16: return apply_as<BF16>(steps, length, values, count, out);
        case TYPE_F8_E4M3: return apply_as<F8_E4M3>(steps, length, values, count, out);
        case TYPE_F8_E5M2: return apply_as<F8_E5M2>(steps, length, values, count, out);
    }
}

}  // namespace
