"""Issue slots an element costs on a GPU, counted without one: python benchmarks/issue_slots.py

A scheduler of an SM starts one instruction of a warp a clock, and our kernels are bound by that. So
slots an element say how fast they can be: 132 SMs of an H100 at 1.7 GHz have 900 G slots a second
for 32 lanes each.

How it counts: NVRTC compiles the source for sm_90 as CuPy does, nvdisasm prints the machine code,
and _warp.py runs warps of it on words of the stream. No instruction is weighed by a guess: a
block that lanes part for counts each time some lane needs it, a loop as often as the warp goes
round, an instruction whose predicate is false counts, and unrolled code is what it is. Compared
are launches of six and of two tiles (of 512 elements) a warp: the difference is what a further
tile costs, with the loop around it and without the kernel's beginning. A run is one long slice.

What the warps write is compared with the NumPy backend, so the counted code is understood, and its
bits are right. Needs the packages nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvdisasm, or a CUDA
toolkit with both.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib.metadata
import json
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import workloads
from _operations import LANES
from _sass import instructions
from _warp import Memory, Warp
from initcore.backends import NumpyBackend
from initcore.backends.cupy import OPTIONS, _parameters, cuda_source
from initcore.dtypes import DTYPES
from initcore.stream import Draw, Job, Runs

ARCHITECTURE = "sm_90"
TILE = 512  # elements a warp makes at a time
WARPS = 8  # of a block
_OUT = 0x7F0000000000
# Where a kernel's parameters begin in the constant bank of sm_90.
_PARAMETERS = 0x210

GROUPS = {
    "float": {"FADD", "FMUL", "FFMA", "FCHK", "FSETP", "FSEL"},
    "multiply": {"IMAD"},
    "logic": {"LOP3", "SHF", "IADD3", "VIADD", "ISETP", "LEA", "I2FP", "SEL", "MOV", "POPC", "FLO"}
    | {"PRMT", "VIMNMX", "HFMA2"},
    "reciprocal": {"MUFU"},
    "memory": {"STG", "LDG", "STS", "LDS", "ATOMS", "LDC", "ULDC"},
}
"""Kinds of instructions in the table; all others are `other`: branches, uniform registers."""

ROWS = {
    "normal": workloads.normal(),
    "trunc_normal": workloads.trunc_normal(0.02, 0.04),
    "uniform": workloads.uniform(),
}


def machine_code(source: str = "") -> str:
    """The kernels of a source, ours if none is given, as nvdisasm prints them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(_compiled(source or cuda_source()))
        file.flush()
        command = [_disassembler(), "-c", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def run(text: str, job: Job, runs: Runs, warps: int = WARPS, off: int = 0) -> Counter[str]:
    """Runs the first warps of one block; returns how often each instruction was issued, by name.

    Args:
        text: from `machine_code`.
        job: what to draw.
        runs: one run.
        warps: how many of the block's eight warps to run. What the others would write is not
            compared.
        off: units in the last place by which the device's estimates miss the nearest float.

    Raises:
        AssertionError: if an element has other bits than the NumPy backend's.
    """
    storage = DTYPES[job.dtype].storage
    out = np.full((runs.count + 8) * storage.itemsize, 0xA5, np.uint8)
    name, parameters = _parameters(job.draw)
    stream = job.stream
    bank = struct.pack("<IIIIII", 32 * WARPS, 1, 1, 1, 1, 1).ljust(_PARAMETERS, b"\0")
    bank += struct.pack("<QQQQ", 0, int(runs.starts[0]), runs.length, 1)
    bank += struct.pack("<IIII", stream.d0, stream.d1, stream.d2, stream.d3)
    bank += struct.pack("<IxxxxQ", *parameters[:2]) + struct.pack("<ffff", *parameters[2:])
    bank += struct.pack("<Q", _OUT)
    code = instructions(text, f"initserve_{name}_{job.dtype}")
    counts: Counter[str] = Counter()
    for number in range(warps):
        warp = Warp(code, bank, Memory({_OUT: out}), warp=number, off=off)
        for address, times in warp.run().items():
            counts[code[address].name] += times
    _assert_bits(job, runs, out.view(storage), warps)
    return counts


def slots(text: str, draw: Draw, dtype: str, warps: int = 4) -> dict[str, float]:
    """Issue slots an element, by kind of instruction; `total` has their sum."""
    job = workloads.job(draw, dtype)
    few, many = (
        run(text, job, Runs(np.zeros(1, np.uint64), tiles * WARPS * TILE), warps)
        for tiles in (2, 6)
    )
    many.subtract(few)
    elements_a_lane = 4 * warps * TILE / LANES
    kinds = dict.fromkeys([*GROUPS, "other"], 0.0)
    for name, times in many.items():
        kind = next((kind for kind, names in GROUPS.items() if name in names), "other")
        kinds[kind] += times / elements_a_lane
    return kinds | {"total": sum(kinds.values())}


def _assert_bits(job: Job, runs: Runs, out: np.ndarray, warps: int) -> None:
    expected = np.empty(runs.count, out.dtype)
    NumpyBackend().fill(job, runs, expected)
    skew = int(runs.starts[0]) % 4
    made = (np.arange(runs.count) + skew) // TILE % WARPS < warps
    bits = f"u{out.itemsize}"
    same = out[: runs.count].view(bits) == expected.view(bits)
    assert same[made].all(), f"{(~same[made]).sum()} elements have other bits"


def _compiled(source: str) -> bytes:
    library = ctypes.CDLL(_nvrtc())
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"initserve.cu", 0, None, None
    )
    assert created == 0
    options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={ARCHITECTURE}")]
    flags = (ctypes.c_char_p * len(options))(*options)
    failed = library.nvrtcCompileProgram(program, len(options), flags)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert failed == 0, log.value.decode()
    assert library.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    code = ctypes.create_string_buffer(size.value)
    assert library.nvrtcGetCUBIN(program, code) == 0
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw


def _nvrtc() -> str:
    for package in ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"):
        if found := _in_package(package, r"libnvrtc\.so\.\d+"):
            return found
    if found := ctypes.util.find_library("nvrtc"):
        return found
    raise SystemExit("NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12")


def _disassembler() -> str:
    if found := shutil.which("nvdisasm") or _in_package("nvidia-cuda-nvdisasm", "nvdisasm"):
        return found
    raise SystemExit("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")


def _in_package(package: str, name: str) -> str | None:
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if re.fullmatch(name, file.name))
    return next((str(place) for place in places if place.exists()), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    options = parser.parse_args()
    text = machine_code()
    table = {
        f"{name} {dtype.lower()}": slots(text, draw, dtype)
        for name, draw in ROWS.items()
        for dtype in ("F32", "BF16")
    }
    if options.json:
        print(json.dumps(table, indent=1))
        return
    kinds = list(next(iter(table.values())))
    print("| |", " | ".join(kinds), "|")
    print("|---|" + "---|" * len(kinds))
    for name, row in table.items():
        print(f"| {name} |", " | ".join(f"{row[kind]:.1f}" for kind in kinds), "|")


if __name__ == "__main__":
    main()
