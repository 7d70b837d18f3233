"""The instructions of sm_90 that our kernels use: each writes the registers of the active lanes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from _sass import Instruction
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _warp import Warp

LANES = 32
Lanes = NDArray[Any]  # one number or one truth value a lane

OPERATIONS: dict[str, Callable[[Warp, Instruction, Lanes], None]] = {}


def _operation(*names: str) -> Callable[[Any], Any]:
    def register(work: Callable[[Warp, Instruction, Lanes], None]) -> Any:
        OPERATIONS.update(dict.fromkeys(names, work))
        return work

    return register


def _is_predicate(text: str) -> bool:
    return re.fullmatch(r"!?U?P(T|\d)", text) is not None


def _parts(one: Instruction) -> tuple[str, list[str], list[str], list[str]]:
    """Destination, predicates written, sources, predicates read."""
    target, *rest = one.operands
    out = []
    while _is_predicate(rest[0]):
        out.append(rest.pop(0))
    read: list[str] = []
    while _is_predicate(rest[-1]):
        read.insert(0, rest.pop())
    return target, out, rest, read


@_operation("MOV", "UMOV", "R2UR")
def _mov(warp: Warp, one: Instruction, active: Lanes) -> None:
    warp.set(one.operands[0], warp.value(one.operands[1]), active)


@_operation("HFMA2")
def _half_constants(warp: Warp, one: Instruction, active: Lanes) -> None:
    # Only the form that makes a constant: -RZ * RZ + two halves.
    target, a, b, high, low = one.operands
    if (a, b) != ("-RZ", "RZ"):
        raise NotImplementedError(f"HFMA2 of {one.operands}")
    halves = [int(np.float16(float(half)).view(np.uint16)) for half in (high, low)]
    warp.set(target, np.full(LANES, halves[0] << 16 | halves[1], np.uint32), active)


@_operation("S2R", "S2UR")
def _special(warp: Warp, one: Instruction, active: Lanes) -> None:
    warp.set(one.operands[0], warp.special(one.operands[1]), active)


@_operation("CS2R")
def _zeros(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, source = one.operands
    if source != "SRZ" or one.modifiers:
        raise NotImplementedError(f"CS2R {one.modifiers} {source}")
    warp.set_wide(target, np.zeros(LANES, np.uint64), active)


@_operation("LDC")
def _load_constant(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, source = one.operands
    warp.set(target, warp.value(source), active)
    if "64" in one.modifiers:
        at = int(re.search(r"\[(0x[0-9a-f]+)\]$", source)[1], 16)  # type: ignore[index]
        kind, number = re.fullmatch(r"(U?R)(\d+)", target).groups()  # type: ignore[union-attr]
        second = warp.value(f"c[0x0][{at + 4:#x}]")
        warp.set(f"{kind}{int(number) + 1}", second, active)


@_operation("IADD3", "VIADD")
def _add(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, out, sources, read = _parts(one)
    total = np.zeros(LANES, np.int64)
    for source in sources:
        total = total + warp.term(source)
    if "X" in one.modifiers:
        for carry in read:
            total = total + warp.predicate(carry)
    warp.set(target, (total & 0xFFFFFFFF).astype(np.uint32), active)
    for number, carry in enumerate(out):
        warp.set(carry, (total >> 32) > number, active)


@_operation("IMAD")
def _multiply_add(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, out, sources, read = _parts(one)
    a, b, c = sources
    if "WIDE" in one.modifiers or "HI" in one.modifiers:
        if "U32" not in one.modifiers or out or read:
            raise NotImplementedError(f"IMAD {one.modifiers} {one.operands}")
        product = warp.value(a).astype(np.uint64) * warp.value(b).astype(np.uint64)
        product = product + warp.pair(c)
        if "WIDE" in one.modifiers:
            warp.set_wide(target, product, active)
        else:
            warp.set(target, (product >> np.uint64(32)).astype(np.uint32), active)
        return
    total = warp.value(a).astype(np.uint64) * warp.value(b).astype(np.uint64)
    total = total + warp.value(c).astype(np.uint64)
    if "X" in one.modifiers:
        total = total + warp.predicate(read[0]).astype(np.uint64)
    warp.set(target, total.astype(np.uint32), active)


@_operation("LEA")
def _shift_add(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, out, sources, read = _parts(one)
    if "HI" in one.modifiers:
        a, b, c, shift = sources
        joined = warp.value(a).astype(np.uint64) | warp.value(c).astype(np.uint64) << np.uint64(32)
        shifted = (joined << np.uint64(int(shift, 16))) >> np.uint64(32)
    else:
        a, b, shift = sources
        shifted = warp.value(a).astype(np.uint64) << np.uint64(int(shift, 16))
        shifted &= np.uint64(0xFFFFFFFF)
    total = shifted.astype(np.int64) + warp.term(b)
    if "X" in one.modifiers:
        total = total + warp.predicate(read[0])
    warp.set(target, (total & 0xFFFFFFFF).astype(np.uint32), active)
    for carry in out:
        warp.set(carry, (total >> 32) > 0, active)


@_operation("SHF")
def _shift(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, low, by, high = one.operands
    joined = warp.value(low).astype(np.uint64) | warp.value(high).astype(np.uint64) << np.uint64(32)
    count = warp.value(by).astype(np.uint64)
    direction, kind, *rest = one.modifiers
    upper = "HI" in rest
    if direction == "L":
        moved = joined << count
    elif kind == "S32":
        moved = (joined.view(np.int64) >> count.astype(np.int64)).view(np.uint64)
    else:
        moved = joined >> count
    if upper:
        moved = moved >> np.uint64(32)
    warp.set(target, moved.astype(np.uint32), active)


@_operation("LOP3")
def _logic(warp: Warp, one: Instruction, active: Lanes) -> None:
    out = [one.operands[0]] if _is_predicate(one.operands[0]) else []
    target, a, b, c, table, *read = one.operands[len(out) :]
    values = [warp.value(part) for part in (a, b, c)]
    result = _by_table(values, int(table, 16), np.uint32(0xFFFFFFFF))
    warp.set(target, result, active)
    for predicate in out:
        truth = result != 0
        other = warp.predicate(read[0])
        warp.set(predicate, truth & other if "PAND" in one.modifiers else truth | other, active)


@_operation("PLOP3")
def _predicate_logic(warp: Warp, one: Instruction, active: Lanes) -> None:
    first, second, a, b, c, table, _ = one.operands
    values = [warp.predicate(part) for part in (a, b, c)]
    result = _by_table(values, int(table, 16), np.True_)
    warp.set(first, result, active)
    warp.set(second, ~result, active)


def _by_table(values: list[Lanes], table: int, ones: Any) -> Lanes:
    result = values[0] ^ values[0]
    for row in range(8):
        if table >> row & 1:
            picked = result ^ result ^ ones
            for bit, value in zip((4, 2, 1), values, strict=True):
                picked = picked & (value if row & bit else ~value)
            result = result | picked
    return result


@_operation("ISETP")
def _compare(warp: Warp, one: Instruction, active: Lanes) -> None:
    relation = one.modifiers[0]
    kind = np.uint32 if "U32" in one.modifiers else np.int32
    first, second, a, b, *read = one.operands
    left, right = warp.value(a).view(kind), warp.value(b).view(kind)
    if "EX" in one.modifiers:
        lower, equal = warp.predicate(read[1]), left == right
        strict = {"G": left > right, "L": left < right, "N": left != right, "E": left != left}
        truth = strict[relation[0]] | equal & lower
    else:
        truth = _compared(relation, left, right)
    other = warp.predicate(read[0])
    combine = np.logical_or if "OR" in one.modifiers else np.logical_and
    warp.set(first, combine(truth, other), active)
    warp.set(second, combine(~truth, other), active)


@_operation("FSETP")
def _compare_floats(warp: Warp, one: Instruction, active: Lanes) -> None:
    relation = one.modifiers[0]
    first, second, a, b, read = one.operands
    left, right = warp.float(a), warp.float(b)
    truth = _compared(relation.removesuffix("U") if len(relation) > 2 else relation, left, right)
    if relation.endswith("U"):
        truth = truth | np.isnan(left) | np.isnan(right)
    warp.set(first, truth & warp.predicate(read), active)
    warp.set(second, ~truth & warp.predicate(read), active)


def _compared(relation: str, left: Lanes, right: Lanes) -> Lanes:
    found: Lanes = {
        "GE": np.greater_equal,
        "GT": np.greater,
        "LE": np.less_equal,
        "LT": np.less,
        "EQ": np.equal,
        "NE": np.not_equal,
    }[relation](left, right)
    return found


@_operation("FCHK")
def _check_division(warp: Warp, one: Instruction, active: Lanes) -> None:
    # Whether a / b needs the slow path: where an operand, the quotient or the remainder may leave
    # the normal numbers.
    target, a, b = one.operands
    above, below = (np.frexp(warp.float(part))[1] for part in (a, b))
    safe = (np.abs(below) < 125) & (above > -100) & (above < 127) & (np.abs(above - below) < 124)
    warp.set(target, ~safe, active)


@_operation("SEL", "FSEL")
def _select(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, a, b, predicate = one.operands
    warp.set(target, np.where(warp.predicate(predicate), warp.value(a), warp.value(b)), active)


@_operation("VIMNMX", "IMNMX")
def _least_or_most(warp: Warp, one: Instruction, active: Lanes) -> None:
    kind = np.uint32 if "U32" in one.modifiers else np.int32
    target, a, b, least = one.operands
    left, right = warp.value(a).view(kind), warp.value(b).view(kind)
    picked = np.where(warp.predicate(least), np.minimum(left, right), np.maximum(left, right))
    warp.set(target, picked, active)


@_operation("FMNMX")
def _least_or_most_float(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, a, b, least = one.operands
    left, right = warp.float(a), warp.float(b)
    picked = np.where(warp.predicate(least), np.minimum(left, right), np.maximum(left, right))
    warp.set(target, picked, active)


@_operation("PRMT")
def _permute_bytes(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, low, selector, high = one.operands
    if one.modifiers:
        raise NotImplementedError(f"PRMT {one.modifiers}")
    joined = warp.value(low).astype(np.uint64) | warp.value(high).astype(np.uint64) << np.uint64(32)
    picks, result = warp.value(selector).astype(np.uint64), np.zeros(LANES, np.uint64)
    for place in range(4):
        pick = picks >> np.uint64(4 * place) & np.uint64(15)
        byte = joined >> (pick & np.uint64(7)) * np.uint64(8) & np.uint64(255)
        signs = (byte >> np.uint64(7)) * np.uint64(255)
        byte = np.where(pick & np.uint64(8), signs, byte)
        result |= byte << np.uint64(8 * place)
    warp.set(target, result.astype(np.uint32), active)


@_operation("POPC")
def _count_bits(warp: Warp, one: Instruction, active: Lanes) -> None:
    bits = np.unpackbits(warp.value(one.operands[1]).view(np.uint8).reshape(LANES, 4), axis=1)
    warp.set(one.operands[0], bits.sum(axis=1, dtype=np.uint32), active)


@_operation("FLO")
def _leading_one(warp: Warp, one: Instruction, active: Lanes) -> None:
    value = warp.value(one.operands[1])
    place = np.frexp(value.astype(np.float64))[1] - 1
    place = 31 - place if "SH" in one.modifiers else place
    warp.set(one.operands[0], np.where(value == 0, -1, place).astype(np.uint32), active)


@_operation("I2FP")
def _to_float(warp: Warp, one: Instruction, active: Lanes) -> None:
    kind = np.int32 if one.modifiers == ("F32", "S32") else np.uint32
    value = warp.value(one.operands[1]).view(kind).astype(np.float32)
    warp.set(one.operands[0], value, active)


@_operation("FADD")
def _float_add(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, a, b = one.operands
    warp.set(target, warp.float(a) + warp.float(b), active)


@_operation("FMUL")
def _float_multiply(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, a, b = one.operands
    warp.set(target, warp.float(a) * warp.float(b), active)


@_operation("FFMA")
def _fused(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, a, b, c = one.operands
    if {"RZ", "RP", "RM"} & set(one.modifiers):
        raise NotImplementedError(f"FFMA {one.modifiers}")
    warp.set(target, _fma(warp.float(a), warp.float(b), warp.float(c)), active)


def _fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """a * b + c, rounded once: the exact sum, rounded to odd in float64, then to float32."""
    product, third = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + third
    rest = total - product
    error = (product - (total - rest)) + (third - rest)
    bits = total.view(np.int64)
    step = np.where((error > 0) == (total > 0), 1, -1)
    odd = np.where((error != 0) & (bits & 1 == 0), bits + step, bits)
    return odd.view(np.float64).astype(np.float32)


@_operation("MUFU")
def _approximate(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, source = one.operands
    value = warp.float(source).astype(np.float64)
    exact = {"RCP": lambda: 1 / value, "RSQ": lambda: 1 / np.sqrt(value)}[one.modifiers[0]]()
    bits = exact.astype(np.float32).view(np.int32) + np.int32(warp.off)
    warp.set(target, bits.view(np.uint32), active)


def _size(one: Instruction) -> int:
    sizes = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
    return next((sizes[name] for name in one.modifiers if name in sizes), 4)


@_operation("STS", "STG")
def _store(warp: Warp, one: Instruction, active: Lanes) -> None:
    place, source = one.operands
    addresses, is_shared = warp.place(place)
    size = _size(one)
    values = _neighbours(warp, source, max(1, size // 4))
    for lane in np.flatnonzero(active):
        target = warp.memory_at(int(addresses[lane]), size, is_shared)
        target[:] = values[lane].view(np.uint8)[:size]


@_operation("LDS", "LDG")
def _load(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, place = one.operands
    addresses, is_shared = warp.place(place)
    size = _size(one)
    loaded = np.zeros((LANES, max(4, size)), np.uint8)
    for lane in np.flatnonzero(active):
        loaded[lane, :size] = warp.memory_at(int(addresses[lane]), size, is_shared)
    for number, column in enumerate(loaded.view(np.uint32).T):
        name = re.sub(r"\d+", lambda m, n=number: str(int(m[0]) + n), target)  # type: ignore[misc]
        warp.set(name, column, active)


@_operation("ATOMS")
def _atomic(warp: Warp, one: Instruction, active: Lanes) -> None:
    if one.modifiers != ("ADD",):
        raise NotImplementedError(f"ATOMS {one.modifiers}")
    target, place, source = one.operands
    addresses, _ = warp.place(place)
    added, before = warp.value(source), np.zeros(LANES, np.uint32)
    for lane in np.flatnonzero(active):
        number = warp.memory_at(int(addresses[lane]), 4, True).view(np.uint32)
        before[lane] = number[0]
        number[0] += added[lane]
    warp.set(target, before, active)


def _neighbours(warp: Warp, text: str, count: int) -> Lanes:
    """`count` registers, one row a lane."""
    if text == "RZ":
        return np.zeros((LANES, count), np.uint32)
    first = int(text.lstrip("R"))
    return np.stack([warp.value(f"R{first + n}") for n in range(count)], axis=1)
