"""Recent plans and their layouts, so that many ranges of a large plan cost one layout."""

from __future__ import annotations

import hashlib
import time
import weakref
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from initcore import Checkpoints, Layout, VirtualFile, layout
from initcore.backends import Backend
from initcore.generate import Pulse, check_checkpoints

from initserver.config import Limits
from initserver.share import LatestValues, SingleFlight, Task, Waiter
from initserver.wire import PlanBytes, check_header

# To lay out a plan is Python code, so more threads would not be faster. Plans of a size have two
# of their own, so that none waits for much larger ones: the largest take ten seconds and more.
_THREADS = 2
_SIZES = (64 << 10, 1 << 20, 2**63)

_KEPT_BYTES = 64 << 20

# Tensors of an evicted layout that are freed before other threads run: in some milliseconds.
_FREED_TOGETHER = 1000

# Memory of a tensor in a layout, without its names. Measured.
_TENSOR_BYTES = 2560


class RecentPlans:
    """Lays plans out, each once for all callers, and keeps recent layouts.

    Args:
        limits: larger plans are refused.
        backend: computes the values of the files.
        checkpoints: where `pretrained` tensors are read; None refuses plans that have them.
    """

    def __init__(
        self, limits: Limits, backend: Backend, checkpoints: Checkpoints | None = None
    ) -> None:
        self._limits = limits
        self._checkpoints = checkpoints
        self._backend = backend
        self._pools = [ThreadPoolExecutor(_THREADS, "initserver-plan") for _ in _SIZES]
        self._freeing = ThreadPoolExecutor(1, "initserver-plan-free")
        self._files = SingleFlight(
            LatestValues(_KEPT_BYTES, _weight, keep_latest=True, drop=self._evicted)
        )

    def join(self, plan: PlanBytes) -> Waiter[VirtualFile]:
        """Waits for the file of a plan. Plans are the same if their bytes are.

        The waiter's `result` raises PlanError for a wrong plan, Refusal for one above a limit.
        """
        key = hashlib.sha256(plan.data).digest()
        pool = self._pools[bisect_left(_SIZES, len(plan.data))]
        return self._files.join(Task(key, lambda _, pulse: self._file(plan, pulse), pool))

    def close(self) -> None:
        """Frees the threads."""
        for pool in (*self._pools, self._freeing):
            pool.shutdown(wait=True, cancel_futures=True)

    def _evicted(self, file: VirtualFile) -> None:
        # A call may still read the file. The layout lives until the last one has ended, what it
        # holds a little longer.
        pieces = _pieces(file.layout)
        weakref.finalize(file.layout, self._free, pieces).atexit = False

    def _free(self, pieces: list[object]) -> None:
        with suppress(RuntimeError):  # closed
            self._freeing.submit(_free_in_pieces, pieces)

    def _file(self, plan: PlanBytes, pulse: Pulse) -> VirtualFile:
        found = layout(plan.parse(self._limits, pulse), self._limits.max_matrix_elements)
        check_header(len(found.header), self._limits)
        check_checkpoints([entry.tensor for entry in found.entries], self._checkpoints, pulse)
        return VirtualFile(found, self._backend, checkpoints=self._checkpoints)


def _pieces(layout: Layout) -> list[object]:
    """All that is large in a layout: an object or two for each tensor."""
    return [*layout.entries, *layout.plan.tensors.values()]


def _free_in_pieces(pieces: list[object]) -> None:
    """Empties a list, some objects at a time.

    Python frees all of a layout at once otherwise, and no other thread runs meanwhile: 0.1 to
    0.6 s for 50,000 tensors.
    """
    while pieces:
        # Gives the interpreter to another thread; at first to the one that lets go of the layout,
        # whose tuples hold the same objects.
        time.sleep(0.001)
        del pieces[-_FREED_TOGETHER:]


def _weight(file: VirtualFile) -> int:
    tensors = [entry.tensor for entry in file.layout.entries]
    count, names = 0, 2 * len(file.layout.header)
    while tensors:
        tensor = tensors.pop()
        tensors += tensor.parts
        count += 1
        names += len(tensor.stream_name)
    return _TENSOR_BYTES * count + names
