"""Machine code of a kernel, as nvdisasm prints it, for sm_90 (NVIDIA calls the language SASS)."""

from __future__ import annotations

import re
from dataclasses import dataclass


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
