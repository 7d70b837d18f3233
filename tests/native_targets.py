"""The native library's targets as backends, each forced: those that this CPU runs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from initcore.backends import Backend, load
from initcore.backends.native._backend import fill_with
from initcore.backends.native._constants import fill_constant_with
from initcore.backends.native._fingerprint import mix_with
from initcore.backends.native._functions import apply_with
from initcore.backends.native._library import Library, packed, targets
from initcore.backends.native._pieces import fill_pieces_with
from initcore.backends.native._rounding import subtract_rounded_with
from initcore.dtypes import DTYPES
from initcore.stream.draws import Job, Pieces, Runs
from initcore.stream.functions import Step
from numpy.typing import NDArray

TARGETS = {
    "x86_64": ["v2", "v3", "v4"],
    "AMD64": ["v2", "v3", "v4"],
    "aarch64": ["aarch64"],
    "arm64": ["aarch64"],
}.get(platform.machine(), ["plain"])

NO_RUNS = np.zeros(1, dtype=np.uint64)

NAMES = [f"native-{target}" for target in TARGETS]


class Target:
    """A backend that runs the code of one target."""

    def __init__(self, library: Library) -> None:
        self.name, self._library = "native", library

    def fill(self, job: Job, runs: Runs, out: NDArray[Any]) -> None:
        fill_with(self._library, job, runs, out)

    def fill_pieces(self, pieces: Sequence[Pieces]) -> None:
        fill_pieces_with(self._library, pieces)

    def mix(self, runs: Runs, bits: NDArray[Any], key: tuple[int, int]) -> tuple[int, int]:
        return mix_with(self._library, runs, bits, key)

    def apply(
        self, steps: Sequence[Step], values: NDArray[np.float64], dtype: str, out: NDArray[Any]
    ) -> None:
        apply_with(self._library, steps, values, dtype, out)

    def subtract_rounded(self, whole: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        subtract_rounded_with(self._library, whole, product)

    def fill_constant(self, pattern: bytes, out: NDArray[Any]) -> None:
        fill_constant_with(self._library, pattern, out)

    def emit(self, job: Job, words: NDArray[np.uint32]) -> NDArray[Any]:
        """What the job's law makes of given words."""
        out = np.empty(len(words), DTYPES[job.dtype].storage)
        task = packed(job, NO_RUNS.ctypes.data, 1)
        self._library.emit(task, words.ctypes.data, len(words), out.ctypes.data)
        return out


def target(name: str) -> Target:
    """The target of one of NAMES; skips where this CPU does not run it."""
    short = name.removeprefix("native-")
    if short not in targets():
        pytest.skip(f"this CPU does not run {short}")
    return Target(targets()[short])


def backend_of(name: str) -> Backend:
    """The backend of a name; one of NAMES is a target of the native one."""
    return target(name) if name in NAMES else load(name)
