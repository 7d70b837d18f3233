"""The machine code of a library as text: by objdump where it is, else by capstone."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

FUSED = re.compile(r"\b(v?fn?m(add|sub)|fml[as])")
"""Instructions that multiply and add with one rounding, of x86-64 and aarch64."""


def listing(library: Path) -> str:
    """All instructions of a library of this machine's kind, one a line."""
    if shutil.which("objdump"):
        command = ["objdump", "-d", "--no-show-raw-insn", str(library)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return elf_listing(library)


def elf_listing(library: Path) -> str:
    """All instructions of an ELF file of x86-64 or aarch64, by capstone."""
    import capstone

    machine, code = _text_section(library.read_bytes())
    if machine == 183:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    else:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.skipdata = True
    return "\n".join(f"{name} {operands}" for _, _, name, operands in engine.disasm_lite(code, 0))


def _text_section(data: bytes) -> tuple[int, bytes]:
    """The machine and the bytes of .text of a 64-bit little-endian ELF file."""
    assert data[:6] == b"\x7fELF\x02\x01"
    (machine,) = struct.unpack_from("<H", data, 18)
    (headers,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [
        struct.unpack_from("<IIQQQQ", data, headers + number * size) for number in range(count)
    ]
    name_table = sections[names][4]
    for name, _, _, _, offset, length in sections:
        if data[name_table + name :].startswith(b".text\0"):
            return machine, data[offset : offset + length]
    raise AssertionError("no section .text")
