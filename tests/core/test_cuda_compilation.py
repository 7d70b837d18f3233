"""CUDA's compilers take the source, and make of it no operation that changes a bit.

NVRTC is the compiler that CuPy calls. It needs no GPU; the package nvidia-cuda-nvrtc-cu12
brings it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from initcore.backends.cupy import OPTIONS, cuda_source

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
KERNELS = {
    *(f"initserve_{draw}_{d}" for draw in ("uniform", "normal", "trunc_normal") for d in FLOATS),
    "initserve_words_U32",
}
APPLYING = {f"initserve_apply_{d}" for d in FLOATS}
ARCHITECTURES = ("compute_75", "compute_80", "compute_90")

has_nvrtc = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="NVRTC comes with the test extra on Linux x86_64",
)
has_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")


def nvrtc_library() -> Path:
    for file in importlib.metadata.files("nvidia-cuda-nvrtc-cu12") or ():
        if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
            return Path(str(file.locate()))
    raise AssertionError("the package nvidia-cuda-nvrtc-cu12 holds no libnvrtc")


@cache
def nvrtc(*options: str, source: str = "") -> str:
    """The PTX that NVRTC makes of a source, ours if none is given."""
    library = ctypes.CDLL(str(nvrtc_library()))
    program = ctypes.c_void_p()
    text = (source or cuda_source()).encode()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), text, b"initserve.cu", 0, None, None
    )
    assert created == 0
    flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = library.nvrtcCompileProgram(program, len(options), flags)
    log = _text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
    assert failed == 0, log
    assert not log.strip(), f"NVRTC warns: {log}"
    ptx = _text(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx


def _text(size_of: ctypes._CFuncPtr, get: ctypes._CFuncPtr, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get(program, text) == 0
    return text.value.decode()


def nvcc(directory: Path, *options: str) -> str:
    """The PTX that nvcc makes of the source."""
    target, source = directory / "initserve.ptx", directory / "initserve.cu"
    source.write_text(cuda_source(), "utf-8")
    command = ["nvcc", "-ptx", *options, str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target.read_text()


def instructions(ptx: str) -> list[str]:
    """The float instructions of PTX, without their operands, such as `mul.rn.f32`."""
    return re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.]*\.f(?:16|32|64)\S*)", ptx, re.MULTILINE)


def body(ptx: str, kernel: str) -> str:
    """One kernel's part of PTX."""
    text = ptx[ptx.index(f".entry {kernel}(") :]
    return text[: text.index("\n}")]


def changes_bits(instruction: str) -> bool:
    """Whether an instruction is fused, may yet be fused, approximates or drops subnormals."""
    name, *modifiers = instruction.split(".")
    if name in ("fma", "mad") or {"approx", "full", "ftz"} & set(modifiers):
        return True
    # Only with .rn are these kept apart; the next compiler fuses those without.
    return name in ("add", "sub", "mul", "div", "sqrt") and "rn" not in modifiers


QUOTIENT = re.compile(
    r"FUNCTION float reciprocal_estimate\(float b\) \{.*?\n\}"
    r"|FUNCTION float quotient\(float a, float b\) \{.*?\n\}",
    re.DOTALL,
)
"""The one routine in which operations are fused, with its first step; test_cuda_division.py holds
its results."""


def without_quotient() -> str:
    """The source with the compiler's own division in place of that routine."""
    plain = "FUNCTION float quotient(float a, float b) { return __fdiv_rn(a, b); }"
    parts = QUOTIENT.split(cuda_source())
    assert len(parts) == 3
    return parts[0] + parts[1] + plain + parts[2]


def assert_keeps_bits(ptx: str) -> None:
    found = set(instructions(ptx))
    assert sorted(instruction for instruction in found if changes_bits(instruction)) == []
    assert {"add.rn.f32", "mul.rn.f32", "div.rn.f32", "sqrt.rn.f32", "cvt.rn.f32.s32"} <= found
    assert {"add.rn.f64", "mul.rn.f64", "div.rn.f64", "sqrt.rn.f64", "cvt.rn.f32.f64"} <= found
    assert set(re.findall(r"\.visible \.entry (\w+)", ptx)) == KERNELS | APPLYING


def assert_fuses_only_in_quotients(ptx: str) -> None:
    """Each kernel has as many fused operations as its quotients have: four to an estimate."""
    for kernel in sorted(KERNELS | APPLYING):
        found = [name for name in instructions(body(ptx, kernel)) if changes_bits(name)]
        estimates = found.count("rcp.approx.ftz.f32")
        assert sorted(found) == ["fma.rn.f32"] * 4 * estimates + ["rcp.approx.ftz.f32"] * estimates
        assert bool(estimates) == ("normal" in kernel), kernel


@has_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_keeps_every_operation_apart(architecture: str) -> None:
    options = (*OPTIONS, f"--gpu-architecture={architecture}")
    assert_keeps_bits(nvrtc(*options, source=without_quotient()))
    assert_fuses_only_in_quotients(nvrtc(*options))


@has_nvrtc
def test_the_options_are_what_keeps_them_apart() -> None:
    options = [option for option in OPTIONS if not option.startswith("--fmad")]
    options += ["--fmad=true", "--gpu-architecture=compute_80"]
    with pytest.raises(AssertionError, match=r"fma|add\.f(32|64)"):
        assert_keeps_bits(nvrtc(*options, source=without_quotient()))
    with pytest.raises(AssertionError, match=r"fma|add\.f(32|64)"):
        assert_fuses_only_in_quotients(nvrtc(*options))


@has_nvrtc
def test_fast_math_would_be_noticed() -> None:
    options = ("--std=c++17", "--use_fast_math", "--fmad=false", "--gpu-architecture=compute_80")
    with pytest.raises(AssertionError, match="ftz"):
        assert_keeps_bits(nvrtc(*options, source=without_quotient()))
    with pytest.raises(AssertionError, match="ftz"):
        assert_fuses_only_in_quotients(nvrtc(*options))


@has_nvrtc
def test_four_neighbours_are_stored_at_once() -> None:
    ptx = nvrtc(*OPTIONS, "--gpu-architecture=compute_80")
    for kernel in KERNELS:
        width = "v2.f64" if kernel.endswith("F64") else r"v4\.\w+"
        assert re.search(rf"st\.global\.cs\.{width}", body(ptx, kernel)), kernel


@has_nvcc
def test_nvcc_keeps_every_operation_apart(tmp_path: Path) -> None:
    options = ("-std=c++17", "-arch=compute_80")
    assert_fuses_only_in_quotients(nvcc(tmp_path, "--fmad=false", *options))
    with pytest.raises(AssertionError, match=r"fma|add\.f(32|64)"):
        assert_fuses_only_in_quotients(nvcc(tmp_path, *options))
