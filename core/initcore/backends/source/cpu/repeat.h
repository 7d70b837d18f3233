// One value everywhere: constants, and the zeros around the points of a pattern.
//
// Memory is the limit, so what counts is the traffic of a store. An ordinary loop of vectors has
// the CPU read most lines before it overwrites them.
#pragma once
#include "machine.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

const u64 LINE = 64;

#if defined(__x86_64__)

// Whether the CPU makes a line of zeros without sending its bytes: AMD since Zen.
bool clears_lines() {
    // CPUID is slow in a virtual machine. Threads that ask at the same time find the same.
    static u32 known = 0;
    u32 answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!answer) {
        u32 a = 0, b = 0, c = 0, d = 0;
        __get_cpuid_count(0x80000008, 0, &a, &b, &c, &d);
        answer = 1 + (b & 1);
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer == 2;
}

// Elements of a smaller range stay in the cache, where a store is cheaper than a cleared line.
const u64 LEAST_CLEARED = 1 << 20;

void repeat_lines(u8* out, u64 lines, u64 pattern) {
    if (!pattern && lines * LINE >= LEAST_CLEARED && clears_lines()) {
        for (u64 i = 0; i < lines; ++i)
            __asm__ volatile(".byte 0x0f, 0x01, 0xfc" : : "a"(out + i * LINE) : "memory");  // clzero
        __asm__ volatile("sfence" : : : "memory");
        return;
    }
    void* to = out;
    u64 words = lines * LINE / sizeof pattern;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
}

#else

void repeat_lines(u8* out, u64 lines, u64 pattern) {
    u64* words = reinterpret_cast<u64*>(out);
    for (u64 i = 0; i < lines * LINE / sizeof pattern; ++i) words[i] = pattern;
}

#endif

void repeat_bytes(u8* out, u64 bytes, u64 pattern) {
    for (u64 i = 0; i < bytes; ++i) out[i] = static_cast<u8>(pattern >> (i % 8 * 8));
}

void repeat(void* out, u64 bytes, u64 pattern) {
    u8* to = static_cast<u8*>(out);
    // As `out` and `bytes` are multiples of the value's size, the pattern is the same from any
    // line's edge.
    u64 head = -reinterpret_cast<u64>(to) % LINE;
    if (head > bytes) head = bytes;
    const u64 lines = (bytes - head) / LINE;
    repeat_bytes(to, head, pattern);
    if (lines) repeat_lines(to + head, lines, pattern);
    const u64 done = head + lines * LINE;
    repeat_bytes(to + done, bytes - done, pattern);
}

}  // namespace
