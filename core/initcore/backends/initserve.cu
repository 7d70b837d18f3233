// Stream v1 on a GPU: words, samples, element types, and the kernels that fill arrays.
//
// The bits are those of numpy.py, the reference, which says what each formula is; this
// file says what CUDA needs besides. Every float operation below is one IEEE float32
// operation, rounded on its own, in the order written. The one thing the compiler must
// be told is --fmad=false: nvcc and NVRTC otherwise fuse `a * b + c` into one rounding,
// which changes a third of the normal samples. The options in cupy.py also spell out the
// defaults that matter (no flushing of subnormals).
//
// No header is included: NVRTC has these functions and types built in. Nothing here but
// qualifiers, thread indices, vector types such as float4 and five intrinsics
// (__float_as_uint, __uint_as_float, __fdiv_rn, __fsqrt_rn, __stcs) is beyond C++17, so
// that a program which defines those can build the very same text for a CPU.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;

namespace {

// ---- Words: Philox4x32-10 -----------------------------------------------------------

struct Stream {
    u32 d0, d1, d2, d3;
};

struct Words {
    u32 lane[4];
};

// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
__device__ __forceinline__ Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    for (int round = 0; round < 10; ++round) {
        u64 a = (u64)c0 * 0xD2511F53u;
        u64 b = (u64)c2 * 0xCD9E8D57u;
        c0 = (u32)(b >> 32) ^ c1 ^ k0;
        c1 = (u32)b;
        c2 = (u32)(a >> 32) ^ c3 ^ k1;
        c3 = (u32)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

// The words at global positions 4 * quad .. 4 * quad + 3.
__device__ __forceinline__ Words words_of(const Stream& stream, u64 quad) {
    return philox((u32)quad, (u32)(quad >> 32), stream.d2, stream.d3, stream.d0, stream.d1);
}

// ---- Words to float32: t(w) and z(w) ------------------------------------------------

// t(w): an odd multiple of 2^-24 within (-1, 1). The integer has at most 25 bits and is
// odd, but below 2^24 in size: the conversion is exact, and so is the power of two.
__device__ __forceinline__ float symmetric_uniform(u32 w) {
    i32 odd = 2 * (i32)(w >> 8) + (1 - (1 << 24));
    return (float)odd * 0x1p-24f;
}

// The names and bits of stream/quantile.py, which explains them.
constexpr float SCALE = 0x1p-32f;
constexpr float C0 = 0x1.40d932p-31f;
constexpr float N0 = 0x1.44565ep-92f;
constexpr float N1 = 0x1.d621aap-85f;
constexpr float N2 = 0x1.7143c2p-80f;
constexpr float N3 = 0x1.6da414p-78f;
constexpr float N4 = 0x1.986692p-81f;
constexpr float D0 = 0x1.4f5c22p+0f;
constexpr float D1 = 0x1.91b22ap+8f;
constexpr float D2 = 0x1.15dd86p+14f;
constexpr float D3 = 0x1.44ff42p+17f;
constexpr float D4 = 0x1.158438p+18f;
constexpr float L0 = -0x1.fffffap+0f;
constexpr float L1 = 0x1.0000ep+0f;
constexpr float L2 = -0x1.555ccep-1f;
constexpr float L3 = 0x1.ff2ad8p-2f;
constexpr float L4 = -0x1.96fffep-2f;
constexpr float L5 = 0x1.62fd4ep-2f;
constexpr float L6 = -0x1.50481ap-2f;
constexpr float L7 = 0x1.9dc9aap-3f;
constexpr float LN4_HIGH = 0x1.62e4p+0f;
constexpr float LN4_LOW = 0x1.7f7d1cp-19f;
constexpr float A0 = 0x1.e15b9ap+1f;
constexpr float A1 = 0x1.4edcd6p+1f;
constexpr float A2 = 0x1.484e9ap-3f;
constexpr float B0 = 0x1.6e147ap+0f;
constexpr float B1 = 0x1.6e2bc2p+1f;
constexpr float B2 = 0x1.acff1ep-1f;
constexpr float B3 = 0x1.c290e4p-6f;
constexpr i32 TAIL = 0x5000000;
constexpr u32 SQRT_HALF_BITS = 0x3F3504F3u;

// |z| for p = (m + 1/2) / 2^32 and q = (k + 1/2) / 2^32.
__device__ __forceinline__ float central(i32 m, i32 k) {
    float big_k = (float)k + 0.5f;
    float p = (float)m * SCALE;
    float r = p - p * p;
    float n = (((N4 * r + N3) * r + N2) * r + N1) * r + N0;
    float d = (((D4 * r + D3) * r + D2) * r + D1) * r + D0;
    return big_k * C0 + (big_k * (big_k * big_k)) * __fdiv_rn(n, d);
}

// |z| for p = (m + 1/2) / 2^32 with m < TAIL.
__device__ __forceinline__ float tail(i32 m) {
    u32 bits = __float_as_uint((float)(m + m + 1));  // 2^33 p = 2^e (1 + g)
    // 2m + 1 >= 1 > sqrt(1/2): the difference is never negative, so neither is e.
    u32 e = (bits - SQRT_HALF_BITS) >> 23;
    float g = __uint_as_float(bits - (e << 23)) - 1.0f;  // exact
    float log = ((((((L7 * g + L6) * g + L5) * g + L4) * g + L3) * g + L2) * g + L1) * g + L0;
    log = log * g;
    float exponent = (float)(33 - (i32)e);
    float t = __fsqrt_rn(exponent * LN4_HIGH + (exponent * LN4_LOW + log));
    float a = (A2 * t + A1) * t + A0;
    float b = ((B3 * t + B2) * t + B1) * t + B0;
    return t - __fdiv_rn(a, b);
}

// z(w). With v = w ^ 2^31, the sign bit of v is the sign of z, and k is v or ~v, whichever
// has that bit clear: the same for w and ~w.
__device__ __forceinline__ float normal_quantile(u32 w) {
    u32 v = w ^ 0x80000000u;
    u32 sign = v & 0x80000000u;
    i32 k = (i32)(sign ? ~v : v);
    i32 m = 0x7FFFFFFF - k;
    // 4 % of the words take the tail. A warp pays for both formulas whenever one of its
    // lanes does; at that rate it is still cheaper than to collect them.
    float size = m < TAIL ? tail(m) : central(m, k);
    return __uint_as_float(__float_as_uint(size) | sign);
}

// ---- The draws ----------------------------------------------------------------------

// What the draws of draws.py need, together. A draw ignores what is not its own.
struct Parameters {
    u32 first;      // trunc_normal: the interval of words, from here
    u64 width;      // and this long, 2^32 at most
    float centre;   // mid or mean
    float scale;    // half or std
    float low, high;
};

__device__ __forceinline__ float clamp(float value, float low, float high) {
    value = value < low ? low : value;
    return value > high ? high : value;
}

struct Uniform {
    static __device__ __forceinline__ float sample(u32 w, const Parameters& p) {
        return clamp(p.centre + p.scale * symmetric_uniform(w), p.low, p.high);
    }
};

struct Normal {
    static __device__ __forceinline__ float sample(u32 w, const Parameters& p) {
        return p.centre + p.scale * normal_quantile(w);
    }
};

struct TruncNormal {
    static __device__ __forceinline__ float sample(u32 w, const Parameters& p) {
        // w <= 2^32 - 1 and width <= 2^32: the product fits in 64 bits.
        u32 inside = p.first + (u32)((w * p.width) >> 32);
        return clamp(p.centre + p.scale * normal_quantile(inside), p.low, p.high);
    }
};

struct Word {
    static __device__ __forceinline__ u32 sample(u32 w, const Parameters&) { return w; }
};

// ---- Element types ------------------------------------------------------------------

// A type that holds the sample as it is: F32, F64 (which widens it), U32 for words.
template <typename Type>
struct Whole {
    typedef Type Storage;
    static __device__ __forceinline__ Storage encode(Type sample) { return sample; }
};

// A float of EXPONENT and MANTISSA bits below a sign, rounded to nearest, ties to even.
// Integers only, since conversion instructions differ between generations of GPUs. What
// rounds to more than the largest number becomes OVERFLOW_BITS, which follow that number:
// infinity, or NaN in F8_E4M3, which has no infinity. No sample is NaN.
template <typename Bits, int EXPONENT, int MANTISSA, u32 OVERFLOW_BITS>
struct Rounded {
    typedef Bits Storage;
    static __device__ __forceinline__ Storage encode(float sample) {
        constexpr int DROPPED = 23 - MANTISSA;
        constexpr u32 REBIAS = 127 - ((1 << (EXPONENT - 1)) - 1);
        u32 bits = __float_as_uint(sample);
        u32 size = bits & 0x7FFFFFFFu;
        u32 sign = (bits >> 31) << (EXPONENT + MANTISSA);
        u32 exponent = size >> 23;
        // A carry out of the mantissa runs into the exponent, which is the next value, and
        // so does one out of the subnormals. With REBIAS 0 (BF16) both types have the same
        // exponents, subnormals included, and the first branch takes everything.
        if (REBIAS == 0 || exponent > REBIAS) {
            u32 rounded = round_off(size - (REBIAS << 23), DROPPED);
            return (Storage)(sign | (rounded < OVERFLOW_BITS ? rounded : OVERFLOW_BITS));
        }
        // Subnormal: the mantissa with its leading one, in units of the smallest value.
        // Shifted by 25 or more it is below a half and becomes 0; this includes all
        // float32 subnormals, so the leading one is there whenever it is used.
        u32 shift = DROPPED + 1 + REBIAS - exponent;
        u32 mantissa = (size & 0x7FFFFFu) | 0x800000u;
        return (Storage)(sign | (shift > 24 ? 0 : round_off(mantissa, shift)));
    }

private:
    // value / 2^count: adding just under a half, or a half where the last bit kept is
    // odd, carries exactly when the value must be rounded up.
    static __device__ __forceinline__ u32 round_off(u32 value, u32 count) {
        u32 odd = (value >> count) & 1u;
        return (value + (1u << (count - 1)) - 1u + odd) >> count;
    }
};

typedef Whole<double> F64;
typedef Whole<float> F32;
typedef Whole<u32> U32;
typedef Rounded<u16, 5, 10, 0x7C00> F16;
typedef Rounded<u16, 8, 7, 0x7F80> BF16;
typedef Rounded<u8, 4, 3, 0x7F> F8_E4M3;
typedef Rounded<u8, 5, 2, 0x7C> F8_E5M2;

// ---- Filling ------------------------------------------------------------------------

// Four neighbours, stored with one instruction (two for F64: 16 bytes is the widest). An
// assignment through float4* is not enough: here the compiler splits it into four. __stcs
// keeps it whole, and lets the cache drop first what no kernel reads again.
__device__ __forceinline__ void store(double* out, const double* v) {
    __stcs((double2*)out, double2{v[0], v[1]});
    __stcs((double2*)out + 1, double2{v[2], v[3]});
}
__device__ __forceinline__ void store(float* out, const float* v) {
    __stcs((float4*)out, float4{v[0], v[1], v[2], v[3]});
}
__device__ __forceinline__ void store(u32* out, const u32* v) {
    __stcs((uint4*)out, uint4{v[0], v[1], v[2], v[3]});
}
__device__ __forceinline__ void store(u16* out, const u16* v) {
    __stcs((ushort4*)out, ushort4{v[0], v[1], v[2], v[3]});
}
__device__ __forceinline__ void store(u8* out, const u8* v) {
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
__device__ __forceinline__ void fill(const Runs& runs, const Stream& stream,
                                     const Parameters& parameters,
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
                         Parameters{first, width, centre, scale, low, high}, out);             \
    }

#define KERNELS(name, Draw)                                                                    \
    KERNEL(name, Draw, F64)                                                                    \
    KERNEL(name, Draw, F32)                                                                    \
    KERNEL(name, Draw, F16)                                                                    \
    KERNEL(name, Draw, BF16)                                                                   \
    KERNEL(name, Draw, F8_E4M3)                                                                \
    KERNEL(name, Draw, F8_E5M2)

KERNELS(uniform, Uniform)
KERNELS(normal, Normal)
KERNELS(trunc_normal, TruncNormal)
KERNEL(words, Word, U32)
