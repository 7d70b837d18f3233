"""The native library under sanitizers: memory, undefined behaviour, threads. `make sanitize`.

Each sanitizer's build is loaded in a process of its own and compared with NumPy on random jobs.
Needs GCC on Linux, whose sanitizers may be loaded into a Python that was built without them.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from initcore.backends import NumpyBackend
from initcore.backends.native import _library
from initcore.backends.native._backend import fill_with
from initcore.backends.native._fingerprint import mix_with
from initcore.backends.native._golden import check
from initcore.dtypes import DTYPES
from initcore.file.fingerprints import mix_reference
from initcore.stream.draws import (
    Draw,
    Job,
    NormalDraw,
    Runs,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)
from initcore.stream.keys import Stream

import hatch_build

SANITIZERS = {
    "address": ("libasan.so", {"ASAN_OPTIONS": "detect_leaks=0"}),
    "undefined": ("libubsan.so", {"UBSAN_OPTIONS": "halt_on_error=1"}),
    "thread": ("libtsan.so", {"TSAN_OPTIONS": "halt_on_error=1"}),
}

DRAWS: list[Draw] = [
    UniformDraw(0.0, 0.5, -0.5, 0.4999),
    NormalDraw(0.0, 1.0),
    TruncNormalDraw(2**31, 2**30, 0.0, 1.0, -3.0, 3.0),
    TruncNormalDraw(0, 2**20, 0.0, 1.0, -9.0, 9.0),
    WordDraw(),
]


def compare(jobs: int) -> None:
    """Every target on random jobs, some of them large enough for several threads."""
    made = random.Random(5)
    for target in _library.targets().values():
        check(target)
        for number in range(jobs):
            lengths = [1, 2, 3, 5, 63, 64, 65, 2047, 2048, 2049, 5000, made.randrange(1, 300)]
            length, count = made.choice(lengths), 1
            if number % 20 == 0:
                length = (1 << 20) + 7
            else:
                count = made.randrange(1, max(2, 6000 // length))
            origin = made.choice([3000, 2**34, 2**62])
            starts = [origin + made.randrange(-3000, 3000) for _ in range(count)]
            runs = Runs(np.array(starts, dtype=np.uint64), length)
            draw = made.choice(DRAWS)
            floats = ["F32", "F64", "BF16", "F16", "F8_E4M3", "F8_E5M2"]
            dtype = "U32" if isinstance(draw, WordDraw) else made.choice(floats)
            stream = Stream(*(made.getrandbits(32) for _ in range(4)))
            expected = np.empty(runs.count, dtype=DTYPES[dtype].storage)
            found = np.empty_like(expected)
            NumpyBackend().fill(Job(draw, stream, dtype), runs, expected)
            fill_with(target, Job(draw, stream, dtype), runs, found)
            assert found.tobytes() == expected.tobytes()
            bits = np.frombuffer(made.randbytes(4 * runs.count), dtype=np.uint32)
            assert mix_with(target, runs, bits, (1, 2)) == mix_reference(runs, bits, (1, 2))


def main() -> int:
    """Builds and runs each; 0 if none found anything."""
    if len(sys.argv) == 3:
        _library.LIBRARY = Path(sys.argv[1])
        compare(int(sys.argv[2]))
        return 0
    good = True
    for name, (runtime, options) in SANITIZERS.items():
        flags = (f"-fsanitize={name}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
        with tempfile.TemporaryDirectory() as folder:
            built = hatch_build.build(Path(folder), ["g++"], more=flags)
            found = subprocess.run(
                ["g++", f"-print-file-name={runtime}"], capture_output=True, text=True, check=True
            ).stdout.strip()
            environment = {**os.environ, **options, "LD_PRELOAD": found, "INITSERVE_THREADS": "4"}
            command = [sys.executable, __file__, str(built), "60"]
            done = subprocess.run(command, env=environment, check=False)
        good = good and done.returncode == 0
        print(f"{name}: {'finds nothing' if done.returncode == 0 else 'FAILS'}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
