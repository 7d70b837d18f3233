"""Recent plans and their layouts, so that many ranges of a large plan cost one layout."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor

from initcore import Checkpoints, VirtualFile, layout
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
        self._files = SingleFlight(LatestValues(_KEPT_BYTES, _weight, keep_latest=True))

    def join(self, plan: PlanBytes) -> Waiter[VirtualFile]:
        """Waits for the file of a plan. Plans are the same if their bytes are.

        The waiter's `result` raises PlanError for a wrong plan, Refusal for one above a limit.
        """
        key = hashlib.sha256(plan.data).digest()
        pool = self._pools[bisect_left(_SIZES, len(plan.data))]
        return self._files.join(Task(key, lambda _, pulse: self._file(plan, pulse), pool))

    def close(self) -> None:
        """Frees the threads."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def _file(self, plan: PlanBytes, pulse: Pulse) -> VirtualFile:
        found = layout(plan.parse(self._limits, pulse), self._limits.max_matrix_elements)
        check_header(len(found.header), self._limits)
        check_checkpoints([entry.tensor for entry in found.entries], self._checkpoints, pulse)
        return VirtualFile(found, self._backend, checkpoints=self._checkpoints)


def _weight(file: VirtualFile) -> int:
    tensors = [entry.tensor for entry in file.layout.entries]
    count, names = 0, 2 * len(file.layout.header)
    while tensors:
        tensor = tensors.pop()
        tensors += tensor.parts
        count += 1
        names += len(tensor.stream_name)
    return _TENSOR_BYTES * count + names
