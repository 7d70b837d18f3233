// The C interface of the library: what native/_library.py calls through ctypes.
#pragma once
#include "../types.h"

// A job of a backend: which elements, from which stream, by which law, in which element type.
struct Job {
    const u64* starts;  // runs of `length` elements, at least 1, one after another in the output
    u64 length;
    u64 width;  // these six are the Parameters of laws.h
    u32 first;
    float centre, scale, low, high;
    u32 d0, d1, d2, d3;  // the stream
    u32 law;             // UNIFORM ...
    u32 dtype;           // F64 ...
};

// A whole job, `count` elements, and where they go.
struct Piece {
    Job job;
    u64 count;
    void* out;
};

enum { LAW_UNIFORM, LAW_NORMAL, LAW_TRUNC_NORMAL, LAW_WORDS };
enum { TYPE_F64, TYPE_F32, TYPE_F16, TYPE_BF16, TYPE_F8_E4M3, TYPE_F8_E5M2 };

struct Step;  // see ../steps.h

// What kernels.cpp offers, once for each target.
struct Target {
    const char* name;

    // Writes elements first .. first + count - 1, counted through the runs, into out.
    void (*fill)(const Job* job, u64 first, u64 count, void* out);

    // Writes what the law makes of `count` words that are given, rather than of the stream's.
    void (*emit)(const Job* job, const u32* words, u64 count, void* out);

    // Writes the two sums of docs/fingerprint-v1.md over elements first .. first + count - 1 of
    // the runs into sums. `data` holds their bits, `item` bytes each.
    void (*mix)(const u64* starts, u64 length, u64 first, u64 count, const void* data, u32 item,
                u32 key0, u32 key1, u64* sums);

    // Writes each of some pieces: one call for many small tensors.
    void (*fill_pieces)(const Piece* pieces, u64 count);

    // Writes what `length` functions, one after the other, make of `count` doubles. They may be
    // written in their own place.
    void (*apply)(const Step* steps, u64 length, const double* values, u64 count, u32 dtype,
                  void* out);

    // Subtracts from each row of a matrix, `stride` doubles from the next, the row of another one
    // whose rows follow each other, and rounds to integers. All differences are below 2^51.
    void (*subtract_rounded)(double* whole, u64 stride, const double* product, u64 rows,
                             u64 columns);

    // Writes a value again and again into so many bytes. Address and number of bytes are multiples
    // of its size, 1, 2, 4 or 8 bytes, and the pattern has it as often as eight bytes hold it.
    void (*repeat)(void* out, u64 bytes, u64 pattern);
};
