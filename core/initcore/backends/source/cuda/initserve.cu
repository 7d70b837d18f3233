// Stream v1 on a GPU: the kernels that fill arrays.
//
// The formulas are in the headers of the folder above, which the CPU's code shares; the headers
// beside this file say what CUDA needs besides. The one option that the compiler must have is
// --fmad=false: nvcc and NVRTC otherwise fuse `a * b + c` into one rounding, which changes a third
// of the normal samples. The options in cupy.py also spell out the defaults that matter (no
// flushing of subnormals).
//
// No header of CUDA's is included: NVRTC has these functions and types built in. What is beyond
// C++17 here, a host defines in tests/cuda_host and builds the very same text for a CPU:
// qualifiers, thread indices, vector types such as float4, and the functions __float_as_uint,
// __uint_as_float, __double_as_longlong, __longlong_as_double, __fmul_rn, __fmaf_rn, __fsqrt_rn,
// __dsqrt_rn, __stcs, __popc, __clz, atomicAdd and __syncwarp; and, with HOST, two that are not
// C++, reciprocal_estimate and tiles_of_block.

#include "apply.h"
#include "device.h"
#include "quantiles.h"

#include "../elements.h"
#include "../laws.h"
#include "../words.h"

namespace {

// ---- Words and samples --------------------------------------------------------------

// The words of one Philox counter: those at global positions 4 * counter .. 4 * counter + 3.
FUNCTION Quad words_of(const Stream& stream, u64 counter) {
    u32 x0 = (u32)counter, x1 = (u32)(counter >> 32), x2 = stream.d2, x3 = stream.d3;
    ten_rounds(x0, x1, x2, x3, stream.d0, stream.d1);
    return Quad{{x0, x1, x2, x3}};
}

// A draw. All lanes of a warp call `begin` once and `prepare` with their words; `sample` makes a
// sample of a word as `prepare` leaves it.

template <typename Law>
struct QuantileDraw {
    static FUNCTION Tile& begin() { return tile_of_warp(); }
    static FUNCTION void prepare(Quad* quads, const Parameters& p, Tile& tile) {
        for (u32 q = 0; q < QUADS; ++q)
            for (u32 i = 0; i < 4; ++i) quads[q].lane[i] = Law::word(quads[q].lane[i], p);
        quantiles(quads, tile);
    }
    static FUNCTION float sample(u32 z, const Parameters& p) {
        return Law::sample(float_of(z), p);
    }
};

struct Nothing {};

struct UniformDraw {
    static FUNCTION Nothing begin() { return Nothing{}; }
    static FUNCTION void prepare(Quad*, const Parameters&, Nothing) {}
    static FUNCTION float sample(u32 w, const Parameters& p) { return Uniform::sample(w, p); }
};

struct WordDraw {
    static FUNCTION Nothing begin() { return Nothing{}; }
    static FUNCTION void prepare(Quad*, const Parameters&, Nothing) {}
    static FUNCTION u32 sample(u32 w, const Parameters&) { return w; }
};

// ---- Filling ------------------------------------------------------------------------

// Four neighbours, stored with one instruction (two for F64: 16 bytes is the widest). An
// assignment through float4* is not enough: here the compiler splits it into four. __stcs
// keeps it whole, and lets the cache drop first what no kernel reads again.
FUNCTION void store(double* out, const double* v) {
    __stcs((double2*)out, double2{v[0], v[1]});
    __stcs((double2*)out + 1, double2{v[2], v[3]});
}
FUNCTION void store(float* out, const float* v) {
    __stcs((float4*)out, float4{v[0], v[1], v[2], v[3]});
}
FUNCTION void store(u32* out, const u32* v) {
    __stcs((uint4*)out, uint4{v[0], v[1], v[2], v[3]});
}
FUNCTION void store(u16* out, const u16* v) {
    __stcs((ushort4*)out, ushort4{v[0], v[1], v[2], v[3]});
}
FUNCTION void store(u8* out, const u8* v) {
    __stcs((uchar4*)out, uchar4{v[0], v[1], v[2], v[3]});
}

// Where the elements are: runs of equal length, one after another in the output. Run r
// begins at global position starts[r]; starts is null for one run that begins at `start`.
//
// A run of n elements touches at most (n + 6) / 4 counters, wherever it begins: 1 for n = 1, and
// a quarter of n for long runs. The counters of all runs are numbered one after another.
struct Runs {
    const u64* starts;
    u64 start, length, count;
};

// A counter of the runs.
struct Place {
    u64 counter;  // as Philox takes it
    // Its first element within its run. Unsigned: where the counter begins before the run it
    // wraps, and so fails `< length`; adding 1, 2 or 3 wraps it back.
    u64 offset;
    u64 before;  // elements of earlier runs
};

FUNCTION Place place_of(const Runs& runs, u64 number) {
    const u64 per_run = (runs.length + 6) / 4;
    const u64 run = runs.starts ? number / per_run : 0;
    const u64 start = runs.starts ? runs.starts[run] : runs.start;
    const u64 counter = start / 4 + (number - run * per_run);
    return Place{counter, 4 * counter - start, run * runs.length};
}

// A warp makes the words of LANES * QUADS counters at a time. Quad q of a lane is of the counter
// LANES * q + lane, so that the warp stores neighbours.
template <typename Draw, typename Type>
FUNCTION void fill(const Runs& runs, const Stream& stream, const Parameters& parameters,
                   typename Type::Storage* out) {
    typedef typename Type::Storage Storage;
    constexpr u64 ALIGNMENT = sizeof(Storage) < 4 ? 4 * sizeof(Storage) : 16;
    constexpr u64 SIZE = LANES * QUADS;
    const u64 counters = runs.count * ((runs.length + 6) / 4);
    const u32 lane = threadIdx.x % LANES;
    const u64 warp = (u64)blockIdx.x * WARPS + threadIdx.x / LANES, warps = (u64)gridDim.x * WARPS;
    // The elements of one run's first counter that are before it, and where that counter would be.
    const u64 skew = runs.start % 4;
    Storage* const origin = out - skew;
    const bool vectors = !runs.starts && (u64)origin % ALIGNMENT == 0;
    auto&& shared = Draw::begin();
    for (u64 first = SIZE * warp; first < counters; first += SIZE * warps) {
        u64 numbers[QUADS];
        Quad quads[QUADS];
        for (u32 q = 0; q < QUADS; ++q) numbers[q] = runs.start / 4 + first + LANES * q + lane;
        if (runs.starts)
            for (u32 q = 0; q < QUADS; ++q) {
                const u64 number = first + LANES * q + lane;
                numbers[q] = place_of(runs, number < counters ? number : 0).counter;
            }
        for (u32 q = 0; q < QUADS; ++q) quads[q] = words_of(stream, numbers[q]);
        Draw::prepare(quads, parameters, shared);
        Storage four[QUADS][4];
        for (u32 q = 0; q < QUADS; ++q)
            for (u32 i = 0; i < 4; ++i)
                four[q][i] = Type::encode(Draw::sample(quads[q].lane[i], parameters));
        if (vectors && 4 * first >= skew && 4 * (first + SIZE) - skew <= runs.length) {
            Storage* const place = origin + 4 * (first + lane);
            for (u32 q = 0; q < QUADS; ++q) store(place + 4 * LANES * q, four[q]);
            continue;
        }
        for (u32 q = 0; q < QUADS; ++q) {
            const u64 number = first + LANES * q + lane;
            if (number >= counters) continue;
            const Place at = place_of(runs, number);
            Storage* const place = out + at.before + at.offset;
            if (at.offset < runs.length && runs.length - at.offset >= 4 &&
                (u64)place % ALIGNMENT == 0) {
                store(place, four[q]);
            } else {
                for (u32 i = 0; i < 4; ++i)
                    if (at.offset + i < runs.length) place[i] = four[q][i];
            }
        }
    }
}

}  // namespace

// ---- Kernels: initserve_<draw>_<dtype> and initserve_apply_<dtype> ------------------

#define KERNEL(name, Draw, Type)                                                               \
    extern "C" __global__ void __launch_bounds__(LANES * WARPS) initserve_##name##_##Type(     \
        const u64* starts, u64 start, u64 length, u64 count, u32 d0, u32 d1, u32 d2, u32 d3,   \
        u32 first, u64 width, float centre, float scale, float low, float high,                \
        Type::Storage* out) {                                                                  \
        fill<Draw, Type>(Runs{starts, start, length, count}, Stream{d0, d1, d2, d3},           \
                         Parameters{width, first, centre, scale, low, high}, out);             \
    }

#define KERNELS(name, Draw)                                                                    \
    KERNEL(name, Draw, F64)                                                                    \
    KERNEL(name, Draw, F32)                                                                    \
    KERNEL(name, Draw, F16)                                                                    \
    KERNEL(name, Draw, BF16)                                                                   \
    KERNEL(name, Draw, F8_E4M3)                                                                \
    KERNEL(name, Draw, F8_E5M2)

KERNELS(uniform, UniformDraw)
KERNELS(normal, QuantileDraw<Normal>)
KERNELS(trunc_normal, QuantileDraw<TruncNormal>)
KERNEL(words, WordDraw, U32)

#define APPLY(Type)                                                                            \
    extern "C" __global__ void __launch_bounds__(LANES * WARPS) initserve_apply_##Type(        \
        const Step* steps, u64 length, const double* values, u64 count, Type::Storage* out) {  \
        apply<Type>(steps, length, values, count, out);                                        \
    }

APPLY(F64)
APPLY(F32)
APPLY(F16)
APPLY(BF16)
APPLY(F8_E4M3)
APPLY(F8_E5M2)
