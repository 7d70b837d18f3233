"""All 2^32 words through the native library's z(w), on each kind of CPU that runs here.

The bits are those of the reference if the digest of all of them is the recorded one, which NumPy
made: `--record` makes it again, in minutes. Part of `make exhaustive`.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from initcore.backends.native._library import Library, packed, targets
from initcore.machine import available_cpus
from initcore.stream.draws import Job, NormalDraw
from initcore.stream.keys import Stream
from initcore.stream.quantile import normal_quantile
from numpy.typing import NDArray

CHUNK = 1 << 22

DIGEST = "e36cf803b19ec3296dd234e22f937ab61a088dd50876fe2ae9f405b910aed2a5"
"""The SHA-256 of the SHA-256 of each chunk's float32 values, little-endian, in the words' order."""

Quantile = Callable[[NDArray[np.uint32]], NDArray[np.float32]]


def digest(quantile: Quantile) -> str:
    """What `DIGEST` is of this function's values."""

    def of_chunk(first: int) -> bytes:
        words = np.arange(first, first + CHUNK, dtype=np.uint64).astype(np.uint32)
        return hashlib.sha256(quantile(words).astype("<f4", copy=False)).digest()

    with ThreadPoolExecutor(available_cpus()) as pool:
        return hashlib.sha256(b"".join(pool.map(of_chunk, range(0, 1 << 32, CHUNK)))).hexdigest()


def native(library: Library) -> Quantile:
    """z(w) by one target of the library."""
    starts = ctypes.c_uint64(0)
    job = Job(NormalDraw(0.0, 1.0), Stream(0, 0, 0, 0), "F32")
    task = packed(job, ctypes.addressof(starts), 1)

    def quantile(words: NDArray[np.uint32]) -> NDArray[np.float32]:
        # 0 + 1 * z is z, which is never zero.
        z = np.empty(len(words), dtype=np.float32)
        library.emit(task, words.ctypes.data, len(words), z.ctypes.data)
        return z

    return quantile


def main() -> int:
    """Checks every target; 0 if all have the recorded bits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="print the digest of NumPy's values")
    if parser.parse_args().record:
        print(digest(normal_quantile))
        return 0
    good = True
    for name, library in targets().items():
        began, used = time.monotonic(), time.process_time()
        same = digest(native(library)) == DIGEST
        good = good and same
        took = f"{time.monotonic() - began:.0f} s, {time.process_time() - used:.0f} s of CPU"
        print(f"{name}: {'holds' if same else 'FAILS'} ({took})", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
