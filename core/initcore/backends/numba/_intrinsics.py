"""Single machine instructions that Python has no operator for, for use in compiled code."""

# No `from __future__ import annotations`: Numba reads intrinsics' signatures as they are.
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

# Callers pass no `typing`; the type that Numba gives this decorator says they do.
intrinsic: Any = extending.intrinsic


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a float32, as int32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), build


@intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """The float32 of these bits, an int32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


@intrinsic
def trailing_zeros(typing: Any, value: Any) -> Any:
    """How many of the lowest bits of a uint64 are zero; 64 for zero."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), build


@intrinsic
def ones(typing: Any, value: Any) -> Any:
    """How many of the bits of a uint64 are one."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), build


@intrinsic
def mask_of_64(typing: Any, words: Any, place: Any, shift: Any, limit: Any) -> Any:
    """Which of words[place : place + 64], uint32, are below `limit` once `shift` is added.

    One bit a word, the first word in the lowest bit. Compilers do not turn loops into mask
    instructions; without these, byte by byte, it takes ten times as long.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(32), 64)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        first = builder.gep(array.data, [args[1]])
        values = builder.load(builder.bitcast(first, lanes.as_pointer()), align=4)
        lane_zero = ir.Constant(lanes, [ir.IntType(32)(0)] * 64)

        def in_all(value: Any) -> Any:
            alone = builder.insert_element(
                ir.Constant(lanes, ir.Undefined), value, ir.IntType(32)(0)
            )
            return builder.shuffle_vector(alone, alone, lane_zero)

        below = builder.icmp_unsigned("<", builder.add(values, in_all(args[2])), in_all(args[3]))
        return builder.bitcast(below, ir.IntType(64))

    return types.uint64(words, types.int64, types.uint32, types.uint32), build


@intrinsic
def widest_vectors(typing: Any) -> Any:
    """Lets the function that calls this use 512-bit vectors where the CPU has them.

    LLVM stops at 256 bits, since some CPUs slow down for wider vectors, which does not pay where
    they are rare. Here nearly all instructions are vectors, and words come twice as fast. No bit
    changes: each lane is computed on its own.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # llvmlite's own `add` takes only the attributes on its list.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), build


@intrinsic
def prefetch_for_writing(typing: Any, out: Any, place: Any) -> Any:
    """Prefetches the cache line of byte `place` of a uint8 array, without waiting for it.

    No value depends on it, and `place` may lie outside the array.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For writing, into the innermost cache, of data rather than of instructions.
        builder.call(
            function, [builder.gep(array.data, [args[1]]), number(1), number(3), number(1)]
        )
        return context.get_dummy_value()

    return types.none(out, types.int64), build
