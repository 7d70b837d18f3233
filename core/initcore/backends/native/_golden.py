"""Golden values that the library must draw before it is used.

A compiler's mistake, a CPU's, or a process that rounds in another way would change bits in
silence; this takes three milliseconds and finds it. The digests are those of the reference, as a
test holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native._constants import fill_constant_with
from initcore.backends.native._fingerprint import mix_with
from initcore.backends.native._functions import apply_with
from initcore.backends.native._library import Library, WrongBitsError, packed
from initcore.backends.native._rounding import subtract_rounded_with
from initcore.backends.native._steps import FUNCTIONS
from initcore.dtypes import DTYPES
from initcore.stream import (
    Draw,
    Job,
    NormalDraw,
    Runs,
    Step,
    Stream,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)

_STREAM = Stream(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)

_LAWS: dict[str, Draw] = {
    "uniform": UniformDraw(0.25, 0.5, -0.25, 0.7499999403953552),
    "normal": NormalDraw(0.0, 0.019999999552965164),
    "trunc_normal": TruncNormalDraw(97715472, 4099536352, 0.5, 1.0, -1.5, 2.5),
    # Its numbers are too large and too small for the short element types.
    "wide": NormalDraw(0.0, 131072.0),
    "narrow": NormalDraw(0.0, 9.999999974752427e-07),
}

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")

# 2^34 is where the counter's low word wraps. Runs of every kind that the library tells apart.
_RUNS = (
    (np.array([2**34 - 1000], dtype=np.uint64), 2500),
    (np.array([3, 2**40 + 1, 77, 2**34 - 30], dtype=np.uint64), 70),
    (np.array([1, 2**62 + 2, 11, 8, 9], dtype=np.uint64), 1),
    (np.array([1, 2**34 - 1, 11, 8, 9], dtype=np.uint64), 2),
)

Fill = Callable[[Job, Runs, NDArray[Any]], None]
Apply = Callable[[Sequence[Step], NDArray[np.float64], str, NDArray[Any]], None]
Mix = Callable[[Runs, NDArray[Any], tuple[int, int]], tuple[int, int]]
Subtract = Callable[[NDArray[np.float64], NDArray[np.float64]], None]
FillConstant = Callable[[bytes, NDArray[Any]], None]

GOLDEN: dict[str, str] = {
    "uniform F64": "4ecf5165ad2b2f53",
    "uniform F32": "667856ac3aa0e17d",
    "uniform F16": "7bcd612dfc8ac764",
    "uniform BF16": "6684543913c990d2",
    "uniform F8_E4M3": "607a4c8a4ab7051a",
    "uniform F8_E5M2": "a8582e10cd3bfe82",
    "normal F64": "0afcae0cfa72313a",
    "normal F32": "34149f31a9adf0d5",
    "normal F16": "0e1625525cc155ad",
    "normal BF16": "c83a283cdf36912a",
    "normal F8_E4M3": "ad9a3c2e3bf469ec",
    "normal F8_E5M2": "775c0db93609bda0",
    "trunc_normal F64": "da58f33226eae84a",
    "trunc_normal F32": "a5704613f0affb91",
    "trunc_normal F16": "c9b77bf193f92e60",
    "trunc_normal BF16": "3fd698feb8012f28",
    "trunc_normal F8_E4M3": "b8b008560008a805",
    "trunc_normal F8_E5M2": "d1d90e7b187738d0",
    "wide F64": "0bac8cbc6ed0bcbf",
    "wide F32": "978918a9002ba409",
    "wide F16": "ad29bff7e61ce53e",
    "wide BF16": "86ebce207c3c6584",
    "wide F8_E4M3": "73571c329a8b428b",
    "wide F8_E5M2": "2c78fc9e7c7f5f84",
    "narrow F64": "f2dc0ee98485f866",
    "narrow F32": "e45c7307a8756e71",
    "narrow F16": "b899c8da83c7bc8c",
    "narrow BF16": "5bf221d2b6bdb038",
    "narrow F8_E4M3": "4901e0fa33e14acc",
    "narrow F8_E5M2": "4901e0fa33e14acc",
    "words U32": "eff0cce010f95565",
    "fingerprint 1": "f11f67cbb03fc572",
    "fingerprint 2": "b447fb1236c2cec4",
    "fingerprint 4": "6f3822ab0ff55378",
    "fingerprint 8": "6dbbf90651ffc378",
    "add": "69700b52fd93e87b",
    "multiply": "3ea80c251d9f0c32",
    "clamp": "3e1de05127af3ad0",
    "abs": "9a16d8452a6e71c8",
    "square": "594a4f380e3ec4a3",
    "sqrt": "6a02ad2814a11e7e",
    "reciprocal": "cc8b3f706ed3fc3e",
    "exp": "76a2f38021f5fa4b",
    "expm1": "dc76b7b6ec94dedd",
    "log": "dde11bb807af1d66",
    "log1p": "298adb4fe1538709",
    "softplus": "280ff1703e173f8c",
    "inverse_softplus": "210d5d3588c9904c",
    "expm1 F64": "d06f9a7786cdbfeb",
    "expm1 F32": "9725aa7870615dee",
    "expm1 F16": "3dbbbe4233907238",
    "expm1 BF16": "36de4cf350374c52",
    "expm1 F8_E4M3": "58ed0ae045293476",
    "expm1 F8_E5M2": "8c028cda8f3f6356",
    "subtract_rounded": "67bb367d0a9d386a",
    "constant": "51380a64bbbaf509",
}
"""The first 16 digits of the SHA-256 of each law in each element type, and of each function."""


def digests(
    fill: Fill, mix: Mix, apply: Apply, subtract: Subtract, fill_constant: FillConstant
) -> Iterator[tuple[str, str]]:
    """The names of `GOLDEN`, and the digests of what these functions make."""
    cases = [(law, dtype, draw) for law, draw in _LAWS.items() for dtype in _FLOATS]
    for law, dtype, draw in [*cases, ("words", "U32", WordDraw())]:
        job, made = Job(draw, _STREAM, dtype), hashlib.sha256()
        for starts, length in _RUNS:
            runs = Runs(starts, length)
            out = np.empty(runs.count, dtype=DTYPES[dtype].storage)
            fill(job, runs, out)
            made.update(out.tobytes())
        yield f"{law} {dtype}", made.hexdigest()[:16]
    for size in (1, 2, 4, 8):
        made = hashlib.sha256()
        for starts, length in _RUNS:
            runs = Runs(starts, length)
            bits = np.arange(runs.count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            for lane in mix(runs, bits.astype(f"u{size}"), (0xA4093822, 0x299F31D0)):
                made.update(lane.to_bytes(8, "little"))
        yield f"fingerprint {size}", made.hexdigest()[:16]
    yield from _applied(apply)
    yield "subtract_rounded", _subtracted(subtract)
    yield "constant", _filled(fill_constant)


def _applied(apply: Apply) -> Iterator[tuple[str, str]]:
    numbers = np.arange(1, 2001, dtype=np.float64) * 0.0049087385212340517
    for function in FUNCTIONS:
        step = Step(function, 0.7, 7.25 if function == "clamp" else None)
        yield function, _digest(apply, [step], numbers, "F64")
    # Its results are of every size that any element type has.
    wide = [Step("add", -4.9), Step("multiply", 40.0), Step("expm1")]
    for dtype in _FLOATS:
        yield f"expm1 {dtype}", _digest(apply, wide, numbers, dtype)


def _digest(apply: Apply, steps: Sequence[Step], numbers: NDArray[np.float64], dtype: str) -> str:
    out = np.empty(len(numbers), dtype=DTYPES[dtype].storage)
    apply(steps, numbers, dtype, out)
    return hashlib.sha256(out.tobytes()).hexdigest()[:16]


def _subtracted(subtract: Subtract) -> str:
    # Integers on the left; quarters on the right, so that one in four differences is a tie.
    numbers = np.arange(7 * 300, dtype=np.float64).reshape(7, 300)
    whole = np.zeros((7, 310))
    whole[:, 5:305] = (numbers - 1000.0) * 1048583.0
    subtract(whole[:, 5:305], (numbers - 900.0) * 262145.25)
    whole += 0.0  # a zero may have either sign
    return hashlib.sha256(whole.tobytes()).hexdigest()[:16]


def _filled(fill_constant: FillConstant) -> str:
    made = hashlib.sha256()
    for item in (1, 2, 4, 8):
        # Whole cache lines, and parts of one at either end.
        out = np.zeros(100 + 3 * 64, dtype=f"u{item}")
        fill_constant(bytes(range(1, item + 1)), out[3:-5])
        made.update(out.tobytes())
    # So many zeros that lines are cleared, where the CPU can.
    zeros = np.full((1 << 17) + 30, -1, dtype=np.int64)
    fill_constant(bytes(8), zeros[9:-7])
    made.update(zeros[:9].tobytes() + zeros[-7:].tobytes() + bytes([bool(zeros[9:-7].any())]))
    return made.hexdigest()[:16]


def check(library: Library) -> None:
    """Draws the golden values.

    Raises:
        WrongBitsError: if one bit differs.
    """

    def fill(job: Job, runs: Runs, out: NDArray[Any]) -> None:
        task = packed(job, runs.starts.ctypes.data, runs.length)
        library.fill(task, 0, runs.count, out.ctypes.data)

    mix, apply = partial(mix_with, library), partial(apply_with, library)
    subtract, constant = (partial(f, library) for f in (subtract_rounded_with, fill_constant_with))
    made = digests(fill, mix, apply, subtract, constant)
    wrong = [name for name, digest in made if GOLDEN.get(name) != digest]
    if wrong:
        raise WrongBitsError(
            f"The compiled library of initserve gives wrong bits on this machine (target "
            f"{library.target}: {', '.join(wrong)}); please report it"
        )
