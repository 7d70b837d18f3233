"""Fingerprints of a file's tensors: computed range by range, each once for all callers.

The ranks of a job verify the same plan at the same time. So the fingerprints of a range are
shared through a single flight, as chunks are; they are small, so many of them stay cached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from initcore import Fingerprint, VirtualFile
from initcore.file import fingerprints_between, mixer

from initserver.config import CHUNK_BYTES
from initserver.share import LatestValues, SingleFlight, Waiter
from initserver.values.chunks import Caller, Chunks, Computed

# Memory of a tensor's fingerprint, without its name. Measured.
_ITEM_BYTES = 512
_KEPT_BYTES = 32 << 20

_ByName: TypeAlias = dict[str, Fingerprint]


class Fingerprints:
    """Computes fingerprints in the threads that make chunks.

    Args:
        chunks: makes the bytes.
        backend: name of the backend that the bytes come from.
        threads: ranges of one caller that are computed at the same time.
    """

    def __init__(self, chunks: Chunks, backend: str, threads: int) -> None:
        self._chunks = chunks
        self._backend = backend
        self._threads = threads
        self._ranges = SingleFlight(LatestValues[_ByName](_KEPT_BYTES, _weight))

    def of(self, file: VirtualFile, caller: Caller) -> _ByName:
        """The fingerprint of each tensor's wanted part; empty tensors are left out.

        Raises:
            LeftError: as soon as the call is cancelled.
        """
        total: _ByName = {}
        left = _ranges(file)
        ahead: deque[Waiter[_ByName]] = deque()
        try:
            while True:
                while len(ahead) < self._threads and (ends := next(left, None)):
                    ahead.append(self._join(file, *ends))
                    caller.add(ahead[-1])
                if not ahead:
                    return total
                for name, part in ahead[0].result().items():
                    total[name] = total.get(name, Fingerprint()) + part
                caller.discard(ahead.popleft())
        finally:
            for waiter in ahead:
                waiter.leave()
                caller.discard(waiter)

    def _join(self, file: VirtualFile, low: int, high: int) -> Waiter[_ByName]:
        def make(computed: Computed) -> _ByName:
            data = np.empty(computed.size, np.uint8)
            computed.write(data)
            return fingerprints_between(file, low, high, data.data, mixer(self._backend))

        key = (file.layout.digest, file.size, low, high)
        return self._ranges.join(self._chunks.task(key, file, low, high, make))


def _ranges(file: VirtualFile) -> Iterator[tuple[int, int]]:
    """The ranges of the file's data, cut where chunks are, which never cuts an element."""
    low = file.layout.data_begin
    while low < file.size:
        high = min(low - low % CHUNK_BYTES + CHUNK_BYTES, file.size)
        yield low, high
        low = high


def _weight(fingerprints: _ByName) -> int:
    return sum(_ITEM_BYTES + 4 * len(name) for name in fingerprints)
