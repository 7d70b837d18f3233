"""Plans that were asked for lately, laid out: ranges of a big plan are not each a layout."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from initcore import Checkpoints, VirtualFile, layout
from initcore.backends import Backend
from initcore.generate import Pulse, check_checkpoints

from initserver.config import Limits
from initserver.share import Herd, LatestValues, Task, Wish
from initserver.wire import PlanBytes, check_header

# Laying out is Python code, so more threads would not lay out more; two, so that a small
# plan need not wait for a large one.
_THREADS = 2

_KEPT_BYTES = 64 << 20

# What a tensor takes in memory once it is laid out, beside its names. Measured.
_TENSOR_BYTES = 2560


class RecentPlans:
    """Lays plans out, once for all who ask at the same time, and keeps recent ones.

    Args:
        limits: what is refused.
        backend: what draws the samples of the files.
        checkpoints: where `pretrained` tensors are read; None refuses plans with them.
    """

    def __init__(
        self, limits: Limits, backend: Backend, checkpoints: Checkpoints | None = None
    ) -> None:
        self._limits = limits
        self._checkpoints = checkpoints
        self._backend = backend
        self._pool = ThreadPoolExecutor(_THREADS, "initserver-plan")
        self._files = Herd(LatestValues(_KEPT_BYTES, _weight, keep_latest=True))

    def wish(self, plan: PlanBytes) -> Wish[VirtualFile]:
        """Wishes for the file of a plan. Plans are the same if their bytes are.

        The wish fails with PlanError or Refusal for a plan that is wrong or above a limit.
        """
        key = hashlib.sha256(plan.data).digest()
        return self._files.wish(Task(key, lambda _, pulse: self._file(plan, pulse), self._pool))

    def close(self) -> None:
        """Frees the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _file(self, plan: PlanBytes, pulse: Pulse) -> VirtualFile:
        laid_out = layout(plan.parse(self._limits, pulse), self._limits.max_matrix_elements)
        check_header(len(laid_out.header), self._limits)
        check_checkpoints([entry.tensor for entry in laid_out.entries], self._checkpoints, pulse)
        return VirtualFile(laid_out, self._backend, checkpoints=self._checkpoints)


def _weight(file: VirtualFile) -> int:
    tensors = [entry.tensor for entry in file.layout.entries]
    count, names = 0, 2 * len(file.layout.header)
    while tensors:
        tensor = tensors.pop()
        tensors += tensor.parts
        count += 1
        names += len(tensor.stream_name)
    return _TENSOR_BYTES * count + names
