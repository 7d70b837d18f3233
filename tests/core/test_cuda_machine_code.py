"""What the GPU's compiler makes of the source has the reference's bits, and costs what it may.

benchmarks/issue_slots.py runs the machine code for sm_90 without a GPU, warp by warp, compares what
it writes with the NumPy backend, and counts its instructions.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from initcore.backends.cupy import cuda_source
from initcore.stream import Draw, Job, NormalDraw, Runs, TruncNormalDraw, UniformDraw, WordDraw
from initcore.stream.keys import Stream

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="CUDA's compiler and disassembler come with the test extra on Linux x86_64",
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STREAM = Stream(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
NORMAL = NormalDraw(mean=0.25, std=float(np.float32(0.02)))
TAILS = TruncNormalDraw(first=0, width=2**26, mean=0.0, std=1.0, low=-9.0, high=9.0)
DRAWS: dict[str, tuple[Draw, str]] = {
    "normal": (NORMAL, "F32"),
    "normal, bf16": (NORMAL, "BF16"),
    "words in tails only": (TAILS, "F32"),
    "uniform": (UniformDraw(mid=0.125, half=1.5, low=-1.375, high=1.5), "F32"),
    "words": (WordDraw(), "U32"),
}

CEILING = 68.0
"""Issue slots that an element of a normal in float32 may cost; 65.5 when this was written."""


@pytest.fixture(scope="module")
def bench() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("issue_slots")


def of_kernels(source: str, *kernels: str) -> str:
    """A source whose kernels are these: the compiler takes as long as there are kernels."""
    formulas = source[: source.rindex("\nKERNELS(uniform")]
    return "\n".join([formulas, *(f"KERNEL({kernel})" for kernel in kernels)])


NORMAL_F32 = "normal, QuantileDraw<Normal>, F32"


@pytest.fixture(scope="module")
def code(bench: Any) -> str:
    kernels = (
        *(NORMAL_F32, "normal, QuantileDraw<Normal>, BF16"),
        "trunc_normal, QuantileDraw<TruncNormal>, F32",
        *("uniform, UniformDraw, F32", "words, WordDraw, U32"),
    )
    return str(bench.machine_code(of_kernels(cuda_source(), *kernels)))


def one_run(start: int, length: int) -> Runs:
    return Runs(np.array([start], dtype=np.uint64), length)


def test_a_normal_costs_no_more_slots_than_it_may(bench: Any, code: str) -> None:
    assert bench.slots(code, NORMAL, "F32")["total"] <= CEILING


SLOWER = {
    "the compiler's division": (r"(FUNCTION float quotient\(.*?\{)", r"\1 return __fdiv_rn(a, b);"),
    "a branch to each formula": (
        r"z\.lane\[i\] = central_quantile\((.*?)\);",
        r"z.lane[i] = side_of(\1).m < TAIL ? tail_quantile(\1) : central_quantile(\1);",
    ),
}


@pytest.mark.parametrize("change", SLOWER)
def test_the_count_notices_what_the_source_avoids(bench: Any, change: str) -> None:
    pattern, replacement = SLOWER[change]
    slower, changed = re.subn(pattern, replacement, cuda_source(), flags=re.DOTALL)
    assert changed == 1
    text = bench.machine_code(of_kernels(slower, NORMAL_F32))
    assert bench.slots(text, NORMAL, "F32", warps=1)["total"] > CEILING


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_estimates_of_a_device_may_be_off_by_one(bench: Any, code: str, off: int) -> None:
    bench.run(code, Job(NORMAL, STREAM, "F32"), one_run(0, 2 * 8 * bench.TILE), warps=2, off=off)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(
    ("start", "length"), [(0, 8 * 512), (2**34 - 1030, 8 * 512 + 3), (5, 1), (2**62 + 1, 700)]
)
def test_the_machine_code_has_the_bits_of_the_reference(
    bench: Any, code: str, draw: str, start: int, length: int
) -> None:
    law, dtype = DRAWS[draw]
    bench.run(code, Job(law, STREAM, dtype), one_run(start, length), warps=2)
