"""Runs a kernel's machine code for one warp, instruction by instruction, and counts them.

Reads what nvdisasm prints of a cubin for sm_90 (NVIDIA calls the language SASS). Only the
instructions that our kernels need are known; another one is an error that names it, never a wrong
count. Their meaning is not published: that the results are the reference's bits shows that it is
understood.

The lanes of a warp run in lock step. Where they part, those with the smallest address go first
until BSYNC joins them again, and each step of a part of the warp counts as one instruction.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 32
Lanes = NDArray[Any]  # one number or one truth value a lane


@dataclass(frozen=True)
class Instruction:
    """One line: `@!P0 IADD3 R4, P1, R2, 0x1, RZ ;`."""

    guard: str
    name: str  # IADD3
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    next: int


def instructions(text: str, kernel: str) -> dict[int, Instruction]:
    """The instructions of a kernel by address, with labels replaced by addresses."""
    start = text.index(f".text.{kernel}:")
    end = text.find("//-----", start)
    lines = text[start : end if end > 0 else None].splitlines()
    labels, found = {}, []
    pending: list[str] = []
    for line in lines:
        if label := re.match(r"([.$][\w$.]+):", line):
            pending.append(label[1])
        elif code := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+ )?\s*([^;]*?)\s*;", line):
            address = int(code[1], 16)
            labels.update(dict.fromkeys(pending, address))
            pending = []
            found.append((address, (code[2] or "").strip("@ "), code[3]))
    table = {}
    for address, guard, code in found:
        name, _, rest = code.partition(" ")
        rest = re.sub(r"`\(([^)]+)\)", lambda m: hex(labels.get(m[1], -1) & 0xFFFFFFFF), rest)
        operands = tuple(part.strip() for part in rest.split(",")) if rest.strip() else ()
        operands = tuple(part.replace(".reuse", "") for part in operands)
        first, *modifiers = name.split(".")
        table[address] = Instruction(guard, first, tuple(modifiers), operands, address + 16)
    return table


@dataclass
class Memory:
    """Global memory: arrays of bytes at addresses of our choice."""

    arrays: dict[int, NDArray[np.uint8]]

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        for start, array in self.arrays.items():
            if start <= address and address + size <= start + len(array):
                assert address % size == 0, "an access is not aligned"
                return array[address - start : address - start + size]
        raise AssertionError(f"access to {address:#x}, outside of every array")


@dataclass
class Warp:
    """A warp of a kernel: its registers and what it has counted.

    Args:
        code: from `instructions`.
        constants: the constant bank with the kernel's parameters.
        memory: global memory.
        block: blockIdx.x.
        warp: the warp's number in its block.
        off: units in the last place by which MUFU misses the nearest float.
    """

    code: dict[int, Instruction]
    constants: bytes
    memory: Memory
    block: int = 0
    warp: int = 0
    off: int = 0
    counts: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._registers: dict[str, Lanes] = {}
        self._shared = np.full(1 << 17, 0xA5, np.uint8)
        self._pc = np.full(LANES, min(self.code), np.int64)
        self._ended = np.zeros(LANES, bool)
        self._waiting = np.zeros(LANES, bool)
        self._barriers: dict[str, Lanes] = {}
        self._uniform = {f"UR{n}": np.zeros(LANES, np.uint32) for n in range(64)}

    def run(self, limit: int = 1_000_000) -> Counter[int]:
        """Runs to the end; returns how often the instruction at each address was issued."""
        for _ in range(limit):
            ready = ~self._ended & ~self._waiting
            if not ready.any():
                assert self._ended.all(), "all lanes wait"
                return self.counts
            address = int(self._pc[ready].min())
            with np.errstate(all="ignore"):  # lanes that are not active compute anything
                self._step(address, ready & (self._pc == address))
        raise AssertionError(f"no end after {limit} instructions")

    def _step(self, address: int, lanes: Lanes) -> None:
        one = self.code[address]
        self.counts[address] += 1
        active = lanes & self._predicate(one.guard) if one.guard else lanes
        self._pc[lanes] = one.next
        flow = getattr(self, f"_flow_{one.name.lower()}", None)
        if flow:
            flow(one, active)
            return
        if not active.any():
            return
        name = one.name
        if name[0] == "U" and name != "UMOV" and name[1:] in _OPERATIONS:
            name = name[1:]
        work = _OPERATIONS.get(name)
        if work is None:
            raise NotImplementedError(f"{one.name} at {address:#x}: {one.modifiers} {one.operands}")
        work(self, one, active)

    # ---- Control flow ----

    def _flow_exit(self, one: Instruction, active: Lanes) -> None:
        self._ended |= active
        for name in self._barriers:
            self._release(name)

    def _flow_bra(self, one: Instruction, active: Lanes) -> None:
        *conditions, target = one.operands
        if "DIV" in one.modifiers:
            # Taken where the lanes of the mask have parted.
            wanted = int(self.value(conditions[0])[0])
            running = sum(1 << lane for lane in np.flatnonzero(active))
            if wanted == running:
                return
        elif conditions:
            active = active & self._predicate(conditions[0])
        self._pc[active] = int(target, 16)

    def _flow_call(self, one: Instruction, active: Lanes) -> None:
        self._pc[active] = int(one.operands[0], 16)

    def _flow_ret(self, one: Instruction, active: Lanes) -> None:
        self._pc[active] = self.value(one.operands[0].split()[0])[active]

    def _flow_bssy(self, one: Instruction, active: Lanes) -> None:
        self._barriers[one.operands[0]] = active.copy()

    def _flow_break(self, one: Instruction, active: Lanes) -> None:
        self._barriers[one.operands[-1]] &= ~active
        self._release(one.operands[-1])

    def _flow_bsync(self, one: Instruction, active: Lanes) -> None:
        name = one.operands[0]
        self._waiting |= active & self._barriers[name]
        self._release(name)

    def _release(self, name: str) -> None:
        lanes = self._barriers[name] & ~self._ended
        if lanes.any() and self._waiting[lanes].all() and len(set(self._pc[lanes])) == 1:
            self._waiting[lanes] = False

    def _flow_warpsync(self, one: Instruction, active: Lanes) -> None:
        if "COLLECTIVE" in one.modifiers:
            raise NotImplementedError("lanes of a warp have parted where all must meet")

    def _flow_nop(self, one: Instruction, active: Lanes) -> None:
        pass

    _flow_yield = _flow_nop

    # ---- Operands ----

    def _predicate(self, text: str) -> Lanes:
        name = text.lstrip("!")
        if name in ("PT", "UPT"):
            value = np.ones(LANES, bool)
        else:
            value = self._registers.get(name, np.zeros(LANES, bool))
        return ~value if text[0] == "!" else value

    def _bits(self, text: str) -> Lanes:
        """An operand without sign or complement, as 32 bits a lane."""
        if text in ("RZ", "URZ"):
            return np.zeros(LANES, np.uint32)
        if re.fullmatch(r"U?R\d+", text):
            return self._registers.get(text, np.zeros(LANES, np.uint32))
        if bank := re.fullmatch(r"c\[0x0\]\[(0x[0-9a-f]+)\]", text):
            at = int(bank[1], 16)
            number = int.from_bytes(self.constants[at : at + 4], "little")
            return np.full(LANES, number, np.uint32)
        return np.full(LANES, int(text, 0) & 0xFFFFFFFF, np.uint32)

    def value(self, text: str) -> Lanes:
        """An integer operand, with its minus or complement, as 32 bits."""
        if text[0] == "~":
            return ~self._bits(text[1:])
        if text[0] == "-" and text[1] in "RUc":
            return (0 - self._bits(text[1:]).astype(np.int64)).astype(np.uint32)
        return self._bits(text)

    def term(self, text: str) -> Lanes:
        """An operand of an addition, as a number whose bit 32 is its carry: -0 carries."""
        if text[0] == "-" and text[1] in "RUc":
            return (1 << 32) - self._bits(text[1:]).astype(np.int64)
        return self.value(text).astype(np.int64)

    def pair(self, text: str) -> Lanes:
        """Two registers as 64 bits."""
        low = self._bits(text).astype(np.uint64)
        if text in ("RZ", "URZ"):
            return low
        kind, number = re.fullmatch(r"(U?R)(\d+)", text).groups()  # type: ignore[union-attr]
        high = self._bits(f"{kind}{int(number) + 1}").astype(np.uint64)
        return low | high << np.uint64(32)

    def float(self, text: str) -> Lanes:
        """A float operand."""
        negative, text = text[0] == "-" and text[1] in "RU|c", text
        text = text[1:] if negative else text
        size, text = text[0] == "|", text.strip("|")
        if re.fullmatch(r"U?R\w+|c\[.*", text):
            number = self._bits(text).view(np.float32)
        else:
            special = {"+INF": np.inf, "-INF": -np.inf, "+QNAN": np.nan, "-QNAN": np.nan}
            number = np.full(LANES, special.get(text) or float(text), np.float32)
        number = np.abs(number) if size else number
        return -number if negative else number

    def set(self, text: str, value: Lanes, active: Lanes) -> None:
        """Writes a register, of 32 bits or a predicate."""
        if text in ("RZ", "URZ", "PT", "UPT"):
            return
        if text[0] == "U":
            active = np.ones(LANES, bool)
        truth = "P" in text
        value = value if truth else np.ascontiguousarray(value).view(np.uint32)
        old = self._registers.get(text)
        if old is None:
            old = np.zeros(LANES, bool if truth else np.uint32)
        self._registers[text] = np.where(active, value, old)

    def set_wide(self, text: str, value: Lanes, active: Lanes) -> None:
        """Writes two registers."""
        kind, number = re.fullmatch(r"(U?R)(\d+)", text).groups()  # type: ignore[union-attr]
        self.set(text, value.astype(np.uint32), active)
        high = (value >> np.uint64(32)).astype(np.uint32)
        self.set(f"{kind}{int(number) + 1}", high, active)

    def place(self, text: str) -> tuple[Lanes, bool]:
        """The addresses of a memory operand, and whether they are in shared memory."""
        inner = re.search(r"\[([^\]]*)\]$", text)[1]  # type: ignore[index]
        is_shared = not text.startswith("desc")
        total = np.zeros(LANES, np.uint64)
        for part in inner.split("+"):
            register = part.removesuffix(".64").removesuffix(".X4")
            if re.fullmatch(r"-?0x[0-9a-f]+", part):
                total += np.uint64(int(part, 16) & 0xFFFFFFFFFFFFFFFF)
            else:
                total += self.pair(register) if part.endswith(".64") else self._bits(register)
        return total, is_shared

    def memory_at(self, address: int, size: int, is_shared: bool) -> NDArray[np.uint8]:
        if is_shared:
            assert address % size == 0, "an access is not aligned"
            assert address + size <= len(self._shared)
            return self._shared[address : address + size]
        return self.memory.at(address, size)

    def special(self, name: str) -> Lanes:
        thread = np.arange(LANES, dtype=np.uint32) + np.uint32(LANES * self.warp)
        number = {"SR_TID.X": thread, "SR_CTAID.X": self.block, "SR_CgaCtaId": 0}[name]
        return np.broadcast_to(np.asarray(number, np.uint32), LANES).copy()


# ---- Operations: each writes the registers of the active lanes ----

_OPERATIONS: dict[str, Callable[[Warp, Instruction, Lanes], None]] = {}


def _operation(*names: str) -> Callable[[Any], Any]:
    def register(work: Callable[[Warp, Instruction, Lanes], None]) -> Any:
        _OPERATIONS.update(dict.fromkeys(names, work))
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
            total = total + warp._predicate(carry)
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
        total = total + warp._predicate(read[0]).astype(np.uint64)
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
        total = total + warp._predicate(read[0])
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
        other = warp._predicate(read[0])
        warp.set(predicate, truth & other if "PAND" in one.modifiers else truth | other, active)


@_operation("PLOP3")
def _predicate_logic(warp: Warp, one: Instruction, active: Lanes) -> None:
    first, second, a, b, c, table, _ = one.operands
    values = [warp._predicate(part) for part in (a, b, c)]
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
        lower, equal = warp._predicate(read[1]), left == right
        strict = {"G": left > right, "L": left < right, "N": left != right, "E": left != left}
        truth = strict[relation[0]] | equal & lower
    else:
        truth = _compared(relation, left, right)
    other = warp._predicate(read[0])
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
    warp.set(first, truth & warp._predicate(read), active)
    warp.set(second, ~truth & warp._predicate(read), active)


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
    warp.set(target, np.where(warp._predicate(predicate), warp.value(a), warp.value(b)), active)


@_operation("VIMNMX", "IMNMX")
def _least_or_most(warp: Warp, one: Instruction, active: Lanes) -> None:
    kind = np.uint32 if "U32" in one.modifiers else np.int32
    target, a, b, least = one.operands
    left, right = warp.value(a).view(kind), warp.value(b).view(kind)
    picked = np.where(warp._predicate(least), np.minimum(left, right), np.maximum(left, right))
    warp.set(target, picked, active)


@_operation("FMNMX")
def _least_or_most_float(warp: Warp, one: Instruction, active: Lanes) -> None:
    target, a, b, least = one.operands
    left, right = warp.float(a), warp.float(b)
    picked = np.where(warp._predicate(least), np.minimum(left, right), np.maximum(left, right))
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
