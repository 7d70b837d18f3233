"""The native library: the reference's bits on each kind of CPU, or it is not used."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from initcore.backends.native import _golden, _library
from initcore.backends.numpy import NumpyBackend
from initcore.file.fingerprints import mix_reference
from initcore.stream.draws import Job, NormalDraw, Runs, UniformDraw
from initcore.stream.functions import Step, apply_steps
from initcore.stream.keys import Stream
from initcore.stream.quantile import TAIL, normal_quantile
from initcore.stream.rounding import encode_doubles, encode_samples
from numpy.typing import NDArray

import hatch_build
from tests import disassembly
from tests.native_targets import NAMES, target

NO_STREAM = Stream(0, 0, 0, 0)


def run(code: str, library: Path | None = None, **environment: str) -> str:
    """The output of a program in a process of its own."""
    prelude = "import sys, warnings; from pathlib import Path\n"
    prelude += "from initcore.backends import load, select\n"
    if library:
        prelude += "from initcore.backends.native import _library\n"
        prelude += f"_library.LIBRARY = Path({str(library)!r})\n"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", prelude + code],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    return done.stdout + done.stderr


# ---- The bits ----


@pytest.mark.parametrize("name", NAMES)
def test_each_target_makes_the_reference_quantile_of_any_word(name: str) -> None:
    edge = int(TAIL)
    centres = [0, edge, 2**31, 2**32 - edge, 2**32]
    near = [w for c in centres for w in range(c - 1000, c + 1000) if 0 <= w < 2**32]
    words = np.concatenate([np.array(near, np.uint32), np.arange(0, 2**32, 4001, dtype=np.uint32)])
    assert len(words) % 64, "some beyond the last whole mask"
    z = target(name).emit(Job(NormalDraw(0.0, 1.0), NO_STREAM, "F32"), words)
    assert z.tobytes() == (np.float32(0) + normal_quantile(words)).tobytes()


@pytest.mark.parametrize("count", [1, 5, 63, 64, 65, 130, 4 * 64 + 3])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_with_any_number_of_words_in_a_tail(name: str, count: int) -> None:
    """None, all, and those beside the first and the last word of the tails."""
    tail = int(TAIL)
    edges = [0, tail - 1, tail, tail + 1, 2**31, 2**32 - tail - 1, 2**32 - tail, 2**32 - 1]
    mixed = np.array([edges[i % len(edges)] for i in range(count)], dtype=np.uint32)
    for words in (mixed, np.full(count, 7, np.uint32), np.full(count, 2**31 + 7, np.uint32)):
        z = target(name).emit(Job(NormalDraw(0.0, 1.0), NO_STREAM, "F32"), words)
        assert z.tobytes() == normal_quantile(words).tobytes()


@pytest.mark.parametrize("dtype", ["F64", "F16", "F8_E4M3", "F8_E5M2", "BF16"])
@pytest.mark.parametrize("name", NAMES)
def test_each_target_rounds_any_sample_as_the_reference_does(name: str, dtype: str) -> None:
    """t(w) times a power of two is any float32: an odd number of 24 bits, times that power."""
    near = (np.uint32(1 << 31) + (np.arange(-5000, 5000) << 8)).astype(np.uint32)
    far = np.arange(0, 2**32, 130_003, dtype=np.uint32)
    # All ties between numbers with up to nine bits of mantissa are small odd numbers.
    words = np.concatenate([near, far, near ^ np.uint32(1 << 30), near ^ np.uint32(1 << 29)])
    one = target(name)
    for exponent in range(-126, 128):
        half = 2.0**exponent
        unbounded = UniformDraw(0.0, half, -3e38, 3e38)
        samples = one.emit(Job(unbounded, NO_STREAM, "F32"), words)
        found = one.emit(Job(unbounded, NO_STREAM, dtype), words)
        with np.errstate(over="ignore"):
            assert found.tobytes() == encode_samples(samples, dtype).tobytes(), exponent


@pytest.mark.parametrize("name", NAMES)
def test_philox_gives_its_known_answers(name: str) -> None:
    """From Random123; a fingerprint of one element is the output of one counter."""
    for counter, key, words in (
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        runs = Runs(np.array([counter[0] | counter[1] << 32], dtype=np.uint64), 1)
        bits = np.array([counter[2] | counter[3] << 32], dtype=np.uint64)
        lanes = target(name).mix(runs, bits, (key[0], key[1]))
        assert lanes == (words[0] | words[1] << 32, words[2] | words[3] << 32)


# ---- The check when the library is loaded ----


def apply_reference(
    steps: Sequence[Step], values: NDArray[np.float64], dtype: str, out: NDArray[Any]
) -> None:
    out[:] = encode_doubles(apply_steps(steps, values), dtype)


def subtract_reference(whole: NDArray[np.float64], product: NDArray[np.float64]) -> None:
    np.rint(whole - product, out=whole)


def fill_constant_reference(pattern: bytes, out: NDArray[Any]) -> None:
    out[:] = np.frombuffer(pattern, out.dtype)[0]


def test_the_golden_values_are_those_of_the_reference() -> None:
    with np.errstate(over="ignore"):
        found = dict(
            _golden.digests(
                *(NumpyBackend().fill, mix_reference, apply_reference),
                *(subtract_reference, fill_constant_reference),
            )
        )
    assert found == _golden.GOLDEN


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as a compiler makes it that is free to fuse operations."""
    command = hatch_build.compiler()
    assert command
    fuse = ("-ffp-contract=fast",)
    return hatch_build.build(tmp_path_factory.mktemp("fused"), command, more=fuse)


def can_fuse() -> bool:
    return bool({"v3", "aarch64"} & set(_library.targets()))


needs_fusing = pytest.mark.skipif("not can_fuse()", reason="this CPU has no fused operations")


@needs_fusing
def test_a_library_with_wrong_bits_is_refused_and_auto_warns_once(fused: Path) -> None:
    said = run("load('native')", fused)
    assert "WrongBitsError" in said
    assert "normal F32" in said
    code = "print([select(None, n).name for n in (10, 10, 1 << 25)], select('numpy').name)"
    said = run(code, fused)
    assert "['numpy', 'numpy', 'numpy'] numpy" in said
    assert said.count("RuntimeWarning: The compiled library of initserve gives wrong bits") == 1
    assert "It is not used" in said


def test_without_a_library_large_work_says_once_that_it_is_slow(tmp_path: Path) -> None:
    missing = tmp_path / "libinitserve.so"
    said = run("load('native')", missing)
    assert "NoLibraryError: This installation of initserve has no compiled library" in said
    assert "pip install" in said
    said = run("print([select(None, n).name for n in (10, 1 << 23)])", missing)
    assert said.strip() == "['numpy', 'numpy']", "small work is as fast, and says nothing"
    said = run("print([select(None, n).name for n in (10, 1 << 24, 1 << 25)])", missing)
    assert said.count("takes more than ten times as long") == 1
    assert "pip install --force-reinstall" in said
    said = run("print(select('numpy', 1 << 25).name)", missing)
    assert said.strip() == "numpy", "asked for by name"


def test_a_library_of_another_system_is_none(tmp_path: Path) -> None:
    other = tmp_path / "libinitserve.so"
    other.write_bytes(b"MZ")
    assert "NoLibraryError: The system does not load" in run("load('native')", other)


# ---- Targets ----


def test_the_best_target_is_taken_and_a_variable_names_another() -> None:
    here = list(_library.targets())
    code = "from initcore.backends import load; print(load('native').target)"
    assert run(code).strip() == here[0]
    for name in here:
        assert run(code, INITSERVE_CPU_TARGET=name).strip() == name


@pytest.mark.parametrize("call", ["load('native')", "select(None, 10)", "select(None, 1 << 25)"])
def test_a_target_that_does_not_run_here_is_refused(call: str) -> None:
    said = run(call, INITSERVE_CPU_TARGET="v9")
    runs_here = ", ".join(_library.targets())
    assert f"INITSERVE_CPU_TARGET is 'v9'; this CPU runs {runs_here}: unset the variable" in said
    assert "BackendError" in said


# ---- The machine code ----


def built() -> Path:
    return _library.LIBRARY


def test_the_library_is_built_from_this_source() -> None:
    loaded = ctypes.CDLL(str(built()))
    loaded.initserve_sources.restype = ctypes.c_char_p
    assert loaded.initserve_sources().decode() == hatch_build.digest_of_sources()


def test_no_instruction_joins_two_operations() -> None:
    text = disassembly.listing(built())
    assert "divps" in text or "fdiv" in text, "not a listing of vector code"
    assert not disassembly.FUSED.search(text)


@needs_fusing
def test_the_options_are_what_keeps_operations_apart(fused: Path) -> None:
    assert disassembly.FUSED.search(disassembly.listing(fused))


def test_capstone_and_objdump_find_the_same(fused: Path) -> None:
    pytest.importorskip("capstone")
    if not sys.platform.startswith("linux"):
        pytest.skip("reads ELF files")
    assert not disassembly.FUSED.search(disassembly.elf_listing(built()))
    if can_fuse():
        assert disassembly.FUSED.search(disassembly.elf_listing(fused))
