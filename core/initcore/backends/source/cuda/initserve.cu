// Stream v1 on a GPU: the kernels that fill arrays.
//
// The formulas are in the headers of the folder above, which the CPU's code shares; this file says
// what CUDA needs besides. The one option that the compiler must have is --fmad=false: nvcc and
// NVRTC otherwise fuse `a * b + c` into one rounding, which changes a third of the normal
// samples. The options in cupy.py also spell out the defaults that matter (no flushing of
// subnormals).
//
// No header of CUDA's is included: NVRTC has these functions and types built in. Nothing here but
// qualifiers, thread indices, vector types such as float4 and five intrinsics
// (__float_as_uint, __uint_as_float, __fdiv_rn, __fsqrt_rn, __stcs) is beyond C++17, so
// that a program which defines those can build the very same text for a CPU.

#include "device.h"

#include "../elements.h"
#include "../laws.h"
#include "../words.h"

namespace {

// ---- Words and samples --------------------------------------------------------------

struct Words {
    u32 lane[4];
};

FUNCTION Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    ten_rounds(c0, c1, c2, c3, k0, k1);
    return Words{{c0, c1, c2, c3}};
}

// The words at global positions 4 * quad .. 4 * quad + 3.
FUNCTION Words words_of(const Stream& stream, u64 quad) {
    return philox((u32)quad, (u32)(quad >> 32), stream.d2, stream.d3, stream.d0, stream.d1);
}

FUNCTION float normal_quantile(u32 w) {
    // 4 % of the words take the tail. A warp pays for both formulas whenever one of its
    // lanes does; at that rate it is still cheaper than to collect them.
    const Side side = side_of(w);
    return with_sign(side.m < TAIL ? tail(side.m) : central(side.m, side.k), side.sign);
}

// What an element is made of, beside Uniform.
template <typename Law>
struct QuantileDraw {
    static FUNCTION float sample(u32 w, const Parameters& p) {
        return Law::sample(normal_quantile(Law::word(w, p)), p);
    }
};

struct WordDraw {
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
struct Runs {
    const u64* starts;
    u64 start, length, count;
};

// One thread makes the four words of one Philox counter, and of these it keeps the ones
// that lie within the run. A run of n elements touches at most (n + 6) / 4 counters,
// wherever it begins: 1 for n = 1, and a quarter of n for long runs.
template <typename Draw, typename Type>
FUNCTION void fill(const Runs& runs, const Stream& stream, const Parameters& parameters,
                   typename Type::Storage* out) {
    typedef typename Type::Storage Storage;
    constexpr u64 ALIGNMENT = sizeof(Storage) < 4 ? 4 * sizeof(Storage) : 16;
    const u64 quads = (runs.length + 6) / 4;
    const u64 items = runs.count * quads;
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 item = (u64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += step) {
        const u64 run = runs.starts ? item / quads : 0;
        const u64 start = runs.starts ? runs.starts[run] : runs.start;
        const u64 quad = start / 4 + (item - run * quads);
        // The run's element at lane 0. Unsigned: where the counter begins before the run
        // it wraps, and so fails `< length`; adding the lane wraps it back.
        const u64 offset = 4 * quad - start;
        const Words words = words_of(stream, quad);
        Storage four[4];
        for (u64 lane = 0; lane < 4; ++lane)
            four[lane] = Type::encode(Draw::sample(words.lane[lane], parameters));
        Storage* place = out + run * runs.length;
        const bool whole = offset < runs.length && runs.length - offset >= 4;
        if (whole && (u64)(place + offset) % ALIGNMENT == 0) {
            store(place + offset, four);
        } else {
            for (u64 lane = 0; lane < 4; ++lane)
                if (offset + lane < runs.length) place[offset + lane] = four[lane];
        }
    }
}

}  // namespace

// ---- Kernels: initserve_<draw>_<dtype>, all with one signature ----------------------

#define KERNEL(name, Draw, Type)                                                               \
    extern "C" __global__ void initserve_##name##_##Type(                                      \
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

KERNELS(uniform, Uniform)
KERNELS(normal, QuantileDraw<Normal>)
KERNELS(trunc_normal, QuantileDraw<TruncNormal>)
KERNEL(words, WordDraw, U32)
