// The library's entry: which targets it holds, and which of them run on this CPU.
#include "interface.h"

#if defined(__x86_64__)
#include <cpuid.h>

extern "C" const Target initserve_target_v2, initserve_target_v3, initserve_target_v4;

namespace {

// What a leaf of CPUID says; nothing for a leaf that the CPU does not have.
struct Leaf {
    u32 a = 0, b = 0, c = 0, d = 0;
    Leaf(u32 number) { __get_cpuid_count(number, 0, &a, &b, &c, &d); }
};

bool has(u32 bits, u32 wanted) { return (bits & wanted) == wanted; }

// Which registers the system keeps when it switches threads.
bool system_keeps(u32 wanted) {
    if (!has(Leaf(1).c, bit_OSXSAVE)) return false;
    u32 low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return has(low, wanted);
}

// The levels of the x86-64 psABI, as far as compilers make use of them.
bool is_v2() { return has(Leaf(1).c, bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT); }

bool is_v3() {
    return is_v2() && has(Leaf(1).c, bit_AVX | bit_F16C | bit_FMA | bit_MOVBE) &&
           has(Leaf(7).b, bit_AVX2 | bit_BMI | bit_BMI2) && has(Leaf(0x80000001).c, bit_LZCNT) &&
           system_keeps(0x6);
}

bool is_v4() {
    const u32 bits = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    return is_v3() && has(Leaf(7).b, bits) && system_keeps(0xE6);
}

}  // namespace

// The best first.
static const Target* const targets[] = {
    &initserve_target_v4, &initserve_target_v3, &initserve_target_v2};
static bool runs(u64 number) { return number == 0 ? is_v4() : number == 1 ? is_v3() : is_v2(); }

#else

#if defined(__aarch64__)
#define ONLY initserve_target_aarch64
#else
#define ONLY initserve_target_plain
#endif

extern "C" const Target ONLY;
static const Target* const targets[] = {&ONLY};
static bool runs(u64) { return true; }

#endif

#if defined(_WIN32)
#define PUBLIC extern "C" __declspec(dllexport)
#else
#define PUBLIC extern "C" __attribute__((visibility("default")))
#endif

// The target of this number, counted from the best; null where there are no more.
PUBLIC const Target* initserve_target(u64 number) {
    return number < sizeof targets / sizeof *targets ? targets[number] : nullptr;
}

// Whether this CPU, and its system, run the target of this number.
PUBLIC int initserve_target_runs(u64 number) { return runs(number); }

// The SHA-256 of the sources that the library was built from.
PUBLIC const char* initserve_sources() { return SOURCES; }
