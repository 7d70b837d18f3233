"""The compiled library: found beside this file, loaded by ctypes, for the kind of CPU that runs.

One library holds the same functions for several kinds of CPU, the targets. It is built from
`initcore/backends/source` by `hatch_build.py` when the package is installed.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from initcore.errors import BackendError
from initcore.stream import (
    Draw,
    Job,
    NormalDraw,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)

VARIABLE = "INITSERVE_CPU_TARGET"
"""The environment variable that names the target to run, such as "v3"."""

_NAMES = {"darwin": "libinitserve.dylib", "win32": "initserve.dll"}

LIBRARY = Path(__file__).parent / _NAMES.get(sys.platform, "libinitserve.so")
"""Where the build puts the library."""

# The layout of `Job` in source/cpu/interface.h: starts, length, width, first, centre, scale, low,
# high, d0, d1, d2, d3, law, dtype.
JOB = struct.Struct("@PQQIffffIIIIII")
# Where the stream's four numbers lie in it.
STREAM_AT = struct.calcsize("@PQQIffff")

_UNIFORM, _NORMAL, _TRUNC_NORMAL, _WORDS = range(4)
# Those of `TYPE_F64` and so on.
DTYPE_NUMBERS = {"F64": 0, "F32": 1, "F16": 2, "BF16": 3, "F8_E4M3": 4, "F8_E5M2": 5, "U32": 1}

_u32, _u64, _pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
_FILL = ctypes.CFUNCTYPE(None, ctypes.c_char_p, _u64, _u64, _pointer)
_EMIT = ctypes.CFUNCTYPE(None, ctypes.c_char_p, _pointer, _u64, _pointer)
_MIX = ctypes.CFUNCTYPE(
    None, _pointer, _u64, _u64, _u64, _pointer, _u32, _u32, _u32, ctypes.POINTER(_u64)
)
_FILL_PIECES = ctypes.CFUNCTYPE(None, _pointer, _u64)
_APPLY = ctypes.CFUNCTYPE(None, ctypes.c_char_p, _u64, _pointer, _u64, _u32, _pointer)
_SUBTRACT = ctypes.CFUNCTYPE(None, _pointer, _u64, _pointer, _u64, _u64)
_REPEAT = ctypes.CFUNCTYPE(None, _pointer, _u64, _u64)


class _Target(ctypes.Structure):
    """`Target` in source/cpu/interface.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("fill", _FILL),
        ("emit", _EMIT),
        ("mix", _MIX),
        ("fill_pieces", _FILL_PIECES),
        ("apply", _APPLY),
        ("subtract_rounded", _SUBTRACT),
        ("repeat", _REPEAT),
    ]


class NoLibraryError(BackendError):
    """This installation has no compiled library, or the system does not load it."""


class WrongBitsError(BackendError):
    """The compiled library gives other bits than the contract on this machine."""


class Library:
    """The functions of one target.

    Attributes:
        target: its name.
        fill: job (of `packed`), first, count, address of the output.
        emit: job, address of words, count, address of the output.
        mix: see source/cpu/interface.h.
        fill_pieces: address of pieces, count.
        apply: steps (each as `Step` in source/steps.h), how many, address of doubles,
            count, number of the element type, address of the output.
        subtract_rounded: address of the matrix, doubles from row to row, address of the other
            one, rows, columns.
        repeat: address of the output, bytes, the value as often as eight bytes hold it.
    """

    def __init__(self, target: _Target) -> None:
        self.target: str = target.name.decode()
        self.fill: Callable[[bytes, int, int, int], None] = target.fill
        self.emit: Callable[[bytes, int, int, int], None] = target.emit
        self.mix: Callable[..., None] = target.mix
        self.fill_pieces: Callable[[int, int], None] = target.fill_pieces
        self.apply: Callable[[bytes, int, int, int, int, int], None] = target.apply
        self.subtract_rounded: Callable[[int, int, int, int, int], None] = target.subtract_rounded
        self.repeat: Callable[[int, int, int], None] = target.repeat


def packed(job: Job, starts: int, length: int) -> bytes:
    """A job as the library takes it.

    Args:
        job: what to draw.
        starts: address of the runs' starts, which must stay valid.
        length: elements of each run.
    """
    law, *parameters = _parameters(job.draw)
    d = job.stream
    return JOB.pack(
        starts, length, *parameters, d.d0, d.d1, d.d2, d.d3, law, DTYPE_NUMBERS[job.dtype]
    )


def _parameters(draw: Draw) -> tuple[int, int, int, float, float, float, float]:
    """Its number, and width, first, centre, scale, low, high."""
    if isinstance(draw, UniformDraw):
        return _UNIFORM, 0, 0, draw.mid, draw.half, draw.low, draw.high
    if isinstance(draw, NormalDraw):
        return _NORMAL, 0, 0, draw.mean, draw.std, 0.0, 0.0
    if isinstance(draw, TruncNormalDraw):
        ends = draw.low, draw.high
        return _TRUNC_NORMAL, draw.width, draw.first, draw.mean, draw.std, *ends
    if isinstance(draw, WordDraw):
        return _WORDS, 0, 0, 0.0, 0.0, 0.0, 0.0
    raise TypeError(f"{draw!r} has no kernel")


@cache
def library() -> Library:
    """The library's functions for the best target that this CPU runs, or the one asked for.

    Raises:
        NoLibraryError: if there is none, or it cannot be loaded.
        BackendError: if INITSERVE_CPU_TARGET names a target that does not run here.
    """
    here = targets()
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return next(iter(here.values()))
    if wanted not in here:
        raise BackendError(
            f"{VARIABLE} is {wanted!r}; this CPU runs {', '.join(here)}: unset the variable, "
            "or set one of these"
        )
    return here[wanted]


@cache
def targets() -> dict[str, Library]:
    """The targets that this CPU runs, by their names, the best first.

    Raises:
        NoLibraryError: if there is no library, or it cannot be loaded.
    """
    if not LIBRARY.exists():
        raise NoLibraryError(
            "This installation of initserve has no compiled library: install a wheel of this "
            "platform (pip install --force-reinstall --only-binary :all: initserve), or install "
            "from source where a C++ compiler is found (g++, clang++, or pip install ziglang)"
        )
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise NoLibraryError(f"The system does not load {LIBRARY}: {error}") from error
    loaded.initserve_target.restype = ctypes.POINTER(_Target)
    loaded.initserve_target.argtypes = [_u64]
    loaded.initserve_target_runs.argtypes = [_u64]
    found: dict[str, Library] = {}
    number = 0
    while target := loaded.initserve_target(number):
        if loaded.initserve_target_runs(number):
            one = Library(target.contents)
            found[one.target] = one
        number += 1
    if not found:
        raise NoLibraryError(
            "The compiled library of initserve runs on no CPU of this kind (x86-64 needs SSE4.2)"
        )
    return found
