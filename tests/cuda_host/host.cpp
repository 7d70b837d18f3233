// The CUDA source on a CPU: defines what CUDA builds in, then includes it, unchanged.
//
// Build with -ffp-contract=off, or the host's compiler fuses what must be rounded twice.
// The functions at the end are what host_cuda.py calls.

#include <cmath>
#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define __forceinline__ inline

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

static bool misaligned = false;

// A GPU faults on a vector store that is not aligned; here it is reported by launch().
template <typename Vector>
static inline void __stcs(Vector* place, Vector value) {
    if ((std::uintptr_t)place % alignof(Vector) != 0) misaligned = true;
    std::memcpy((void*)place, &value, sizeof value);
}

static inline unsigned int __float_as_uint(float value) {
    unsigned int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }

#include "initserve.cu"

// The signature of every kernel, with the output's type left out.
typedef void (*Kernel)(const u64*, u64, u64, u64, u32, u32, u32, u32, u32, u64, float, float,
                       float, float, void*);

// Runs a kernel over a whole grid, one thread after another. Returns 1 if a vector store
// was not aligned.
extern "C" int launch(Kernel kernel, u32 blocks, u32 threads, const u64* starts, u64 start,
                      u64 length, u64 count, u32 d0, u32 d1, u32 d2, u32 d3, u32 first,
                      u64 width, float centre, float scale, float low, float high, void* out) {
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
            kernel(starts, start, length, count, d0, d1, d2, d3, first, width, centre, scale,
                   low, high, out);
    return misaligned;
}

extern "C" void host_philox(const u32* c, const u32* k, u32* out) {
    Words words = philox(c[0], c[1], c[2], c[3], k[0], k[1]);
    std::memcpy(out, words.lane, sizeof words.lane);
}

extern "C" void host_normal_quantile(const u32* words, u64 count, float* out) {
    for (u64 i = 0; i < count; ++i) out[i] = normal_quantile(words[i]);
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
