// The CUDA source on a CPU: defines what CUDA builds in, then includes it, unchanged.
//
// Build with -ffp-contract=off, or the host's compiler fuses what must be rounded twice.
// The functions at the end are what host_cuda.py calls.

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <memory>

#include "builtins.h"

#define __global__
#define __launch_bounds__(threads)

struct Index {
    unsigned x;
};
static thread_local Index gridDim, blockDim, blockIdx, threadIdx;

struct alignas(16) double2 {
    double x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned int x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};

static thread_local bool misaligned = false;

// A GPU faults on a vector store that is not aligned; here it is reported by launch().
template <typename Vector>
static inline void __stcs(Vector* place, Vector value) {
    if ((std::uintptr_t)place % alignof(Vector) != 0) misaligned = true;
    std::memcpy((void*)place, &value, sizeof value);
}

static inline int __popc(unsigned int bits) { return __builtin_popcount(bits); }
static inline int __clz(int bits) { return bits ? __builtin_clz((unsigned int)bits) : 32; }

// Lanes of one warp never run at once here: each runs alone until it waits or ends.
static inline unsigned int atomicAdd(unsigned int* place, unsigned int value) {
    const unsigned int before = *place;
    *place += value;
    return before;
}
static void __syncwarp();

#include "initserve.cu"

// How far reciprocal_estimate is from the nearest float, in units in the last place: a device
// may be off by one.
static int reciprocal_error = 0;
extern "C" void host_reciprocal_error(int units) { reciprocal_error = units; }

namespace {

float reciprocal_estimate(float b) {
    return float_of(bits_of(1.0f / b) + (u32)reciprocal_error);
}

thread_local Tile block_tiles[WARPS];
Tile* tiles_of_block() { return block_tiles; }

// The lanes of a warp, each with a stack of its own. Between two waits the lanes run one after
// another, upwards or downwards: a result that depends on which lane comes first, because
// __syncwarp is missing, shows in one of the two orders.
struct Warp {
    static constexpr std::size_t STACK = 1 << 16;
    std::unique_ptr<char[]> stacks{new char[LANES * STACK]};
    ucontext_t scheduler, lanes[LANES];
    bool ended[LANES];
    u32 first_thread, current;
    void (*body)(const void*);
    const void* arguments;
};
thread_local Warp* running = nullptr;
int backwards = 0;

void lane_entry() {
    running->body(running->arguments);
    running->ended[running->current] = true;
}

// Runs `body` on every lane. Returns false if some lanes wait for others that have ended.
bool run_warp(Warp& warp) {
    running = &warp;
    for (u32 lane = 0; lane < LANES; ++lane) {
        getcontext(&warp.lanes[lane]);
        warp.lanes[lane].uc_stack.ss_sp = warp.stacks.get() + lane * Warp::STACK;
        warp.lanes[lane].uc_stack.ss_size = Warp::STACK;
        warp.lanes[lane].uc_link = &warp.scheduler;
        makecontext(&warp.lanes[lane], lane_entry, 0);
        warp.ended[lane] = false;
    }
    for (;;) {
        u32 ended = 0;
        for (u32 turn = 0; turn < LANES; ++turn) {
            const u32 lane = backwards ? LANES - 1 - turn : turn;
            warp.current = lane;
            threadIdx.x = warp.first_thread + lane;
            swapcontext(&warp.scheduler, &warp.lanes[lane]);
            ended += warp.ended[lane];
        }
        if (ended == LANES) return true;
        if (ended) return false;
    }
}

}  // namespace

static void __syncwarp() {
    Warp& warp = *running;
    swapcontext(&warp.lanes[warp.current], &warp.scheduler);
}

extern "C" void host_backwards(int yes) { backwards = yes; }

// Runs `body` over a whole grid, one warp after another. Returns 1 if a vector store was not
// aligned, 2 if lanes of a warp wait for others that have ended.
static int run_grid(void (*body)(const void*), const void* arguments, u32 blocks, u32 threads) {
    Warp warp;
    warp.body = body;
    warp.arguments = arguments;
    gridDim.x = blocks;
    blockDim.x = threads;
    misaligned = false;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        // Shared memory holds anything when a block begins.
        std::memset((void*)block_tiles, 0xA5, sizeof block_tiles);
        for (u32 thread = 0; thread < threads; thread += LANES) {
            warp.first_thread = thread;
            if (!run_warp(warp)) return 2;
        }
    }
    return misaligned;
}

// The signature of the kernels of draws, with the output's type left out.
typedef void (*Kernel)(const u64*, u64, u64, u64, u32, u32, u32, u32, u32, u64, float, float,
                       float, float, void*);

struct Launch {
    Kernel kernel;
    const u64* starts;
    u64 start, length, count;
    u32 d0, d1, d2, d3, first;
    u64 width;
    float centre, scale, low, high;
    void* out;
};

static void run_kernel(const void* arguments) {
    const Launch& l = *(const Launch*)arguments;
    l.kernel(l.starts, l.start, l.length, l.count, l.d0, l.d1, l.d2, l.d3, l.first, l.width,
             l.centre, l.scale, l.low, l.high, l.out);
}

// Runs the kernel of a draw; returns what run_grid does.
extern "C" int launch(Kernel kernel, u32 blocks, u32 threads, const u64* starts, u64 start,
                      u64 length, u64 count, u32 d0, u32 d1, u32 d2, u32 d3, u32 first,
                      u64 width, float centre, float scale, float low, float high, void* out) {
    const Launch arguments{kernel, starts, start, length, count, d0,  d1,   d2, d3,
                           first,  width,  centre, scale, low,   high, out};
    return run_grid(run_kernel, &arguments, blocks, threads);
}

typedef void (*ApplyKernel)(const Step*, u64, const double*, u64, void*);

struct ApplyLaunch {
    ApplyKernel kernel;
    const Step* steps;
    u64 length;
    const double* values;
    u64 count;
    void* out;
};

static void run_apply_kernel(const void* arguments) {
    const ApplyLaunch& l = *(const ApplyLaunch*)arguments;
    l.kernel(l.steps, l.length, l.values, l.count, l.out);
}

// Runs the kernel of functions; returns what run_grid does.
extern "C" int launch_apply(ApplyKernel kernel, u32 blocks, u32 threads, const Step* steps,
                            u64 length, const double* values, u64 count, void* out) {
    const ApplyLaunch arguments{kernel, steps, length, values, count, out};
    return run_grid(run_apply_kernel, &arguments, blocks, threads);
}

extern "C" void host_philox(const u32* c, const u32* k, u32* out) {
    const Quad words = words_of(Stream{k[0], k[1], c[2], c[3]}, (u64)c[1] << 32 | c[0]);
    std::memcpy(out, words.lane, sizeof words.lane);
}

extern "C" void host_normal_quantile(const u32* words, u64 count, float* out) {
    for (u64 i = 0; i < count; ++i)
        out[i] = float_of(side_of(words[i]).m < TAIL ? tail_quantile(words[i])
                                                     : central_quantile(words[i]));
}

#define ENCODE(Type)                                                                      \
    extern "C" void host_encode_##Type(const float* samples, u64 count, Type::Storage* out) { \
        for (u64 i = 0; i < count; ++i) out[i] = Type::encode(samples[i]);                \
    }

ENCODE(F64)
ENCODE(F32)
ENCODE(F16)
ENCODE(BF16)
ENCODE(F8_E4M3)
ENCODE(F8_E5M2)
