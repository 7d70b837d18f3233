// Functions of doubles by number, as Python gives them: see native/_steps.py.
#pragma once
#include "functions.h"

// A function of doubles, with its numbers.
struct Step {
    double a, b;
    u64 function;  // FUNCTION_ADD ...
};

enum {
    FUNCTION_ADD,
    FUNCTION_MULTIPLY,
    FUNCTION_CLAMP,
    FUNCTION_ABS,
    FUNCTION_SQUARE,
    FUNCTION_SQRT,
    FUNCTION_RECIPROCAL,
    FUNCTION_EXP,
    FUNCTION_EXPM1,
    FUNCTION_LOG,
    FUNCTION_LOG1P,
    FUNCTION_SOFTPLUS,
    FUNCTION_INVERSE_SOFTPLUS
};
