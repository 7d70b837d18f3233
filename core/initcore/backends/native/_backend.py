"""The backend's class: from a job to calls of the library, shared among CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends.native._constants import fill_constant_with
from initcore.backends.native._functions import apply_with
from initcore.backends.native._golden import check
from initcore.backends.native._library import Library, library, packed
from initcore.backends.native._parts import threads_and_parts
from initcore.backends.native._pieces import fill_pieces_with
from initcore.backends.native._rounding import subtract_rounded_with
from initcore.machine import populate, run_all
from initcore.stream import Job, Pieces, Runs, Step

# Elements of a part that one thread works on, at least: some hundred microseconds, since
# handing one over costs tens of them.
_PART = 1 << 18

# Parts begin at a multiple of this, which is also where cache lines do.
_ALIGNMENT = 1 << 11

# Elements whose pages are made before they are filled, in new memory: still in a cache then.
_POPULATED = 1 << 20


class NativeBackend:
    """Fills arrays with compiled code on all CPUs that this process may use.

    INITSERVE_THREADS sets another number of threads, INITSERVE_CPU_TARGET another kind of CPU
    than the best that runs here.

    Attributes:
        target: the kind of CPU whose code runs, such as "v4".

    Raises:
        NoLibraryError: if there is no library, or it cannot be loaded.
        WrongBitsError: if it gives other bits than the contract.
        BackendError: if INITSERVE_CPU_TARGET names a target that does not run here.
    """

    name = "native"

    def __init__(self) -> None:
        self._library = library()
        self.target = self._library.target
        check(self._library)

    def fill(self, job: Job, runs: Runs, out: NDArray[Any]) -> None:
        """See `initcore.backends.Backend.fill`."""
        fill_with(self._library, job, runs, out)

    def fill_pieces(self, pieces: Sequence[Pieces]) -> None:
        """See `initcore.backends.PiecesBackend.fill_pieces`."""
        fill_pieces_with(self._library, pieces)

    def apply(
        self, steps: Sequence[Step], values: NDArray[np.float64], dtype: str, out: NDArray[Any]
    ) -> None:
        """See `initcore.backends.FunctionsBackend.apply`."""
        apply_with(self._library, steps, values, dtype, out)

    def subtract_rounded(self, whole: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """See `initcore.backends.RoundingBackend.subtract_rounded`."""
        subtract_rounded_with(self._library, whole, product)

    def fill_constant(self, pattern: bytes, out: NDArray[Any]) -> None:
        """See `initcore.backends.ConstantsBackend.fill_constant`."""
        fill_constant_with(self._library, pattern, out)


def fill_with(library: Library, job: Job, runs: Runs, out: NDArray[Any]) -> None:
    """Fills with the functions of a target."""
    count = runs.count
    if not count:
        return
    starts = np.ascontiguousarray(runs.starts, np.uint64)
    task = packed(job, starts.ctypes.data, int(runs.length))
    address, item = out.ctypes.data, out.itemsize
    threads, parts = threads_and_parts(count, _PART)
    if threads == 1:
        populate(out)
        library.fill(task, 0, count, address)
        return
    step = -(-count // (parts * _ALIGNMENT)) * _ALIGNMENT

    def fill_part(first: int) -> None:
        last = min(first + step, count)
        for at in range(first, last, _POPULATED):
            size = min(_POPULATED, last - at)
            populate(out[at : at + size])
            library.fill(task, at, size, address + at * item)

    run_all(fill_part, range(0, count, step), threads)
