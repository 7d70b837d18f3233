"""What a fingerprint costs, in nanoseconds an element: python benchmarks/fingerprints.py."""

from __future__ import annotations

import os
import time

import numpy as np
from initcore.backends.native import mix
from initcore.file.fingerprints import Mix, mix_reference
from initcore.stream.draws import Runs

ELEMENTS = 1 << 24


def nanoseconds(function: Mix, elements: int) -> float:
    """The best of five, for float32."""
    runs = Runs(np.zeros(1, dtype=np.uint64), elements)
    bits = np.arange(elements, dtype=np.uint32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        function(runs, bits, (1, 2))
        best = min(best, time.perf_counter() - start)
    return best / elements * 1e9


def main() -> None:
    cpus = len(os.sched_getaffinity(0))
    print(f"numpy, 1 thread     {nanoseconds(mix_reference, ELEMENTS // 8):6.2f}")
    for threads in (1, cpus):
        os.environ["INITSERVE_THREADS"] = str(threads)
        print(f"native, {threads:2d} thread(s) {nanoseconds(mix, ELEMENTS):6.2f}")


if __name__ == "__main__":
    main()
