"""Runs a kernel's machine code for one warp, instruction by instruction, and counts them.

Only the instructions that our kernels need are known; another one is an error that names it, never
a wrong count. Their meaning is not published: that the results are the reference's bits shows that
it is understood.

The lanes of a warp run in lock step. Where they part, those with the smallest address go first
until BSYNC joins them again, and each step of a part of the warp counts as one instruction.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from _operations import LANES, OPERATIONS, Lanes
from _sass import Instruction
from numpy.typing import NDArray


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
        active = lanes & self.predicate(one.guard) if one.guard else lanes
        self._pc[lanes] = one.next
        flow = getattr(self, f"_flow_{one.name.lower()}", None)
        if flow:
            flow(one, active)
            return
        if not active.any():
            return
        name = one.name
        if name[0] == "U" and name != "UMOV" and name[1:] in OPERATIONS:
            name = name[1:]
        work = OPERATIONS.get(name)
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
            active = active & self.predicate(conditions[0])
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

    def predicate(self, text: str) -> Lanes:
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
