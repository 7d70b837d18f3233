"""Fingerprints of a file's tensors: computed in pieces, each once for all who ask.

The ranks of a job verify the same plan at the same time. So a piece is a value of the herd
like a chunk is, but it weighs nothing: what was computed lately costs nothing again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

from initcore import Fingerprint, VirtualFile
from initcore.file import fingerprints_between, mixer

from initserver.config import CHUNK_BYTES
from initserver.share import Herd, LatestValues, Wish
from initserver.values.chunks import Caller, Chunks

# What a tensor's fingerprint takes in memory beside its name. Measured.
_ITEM_BYTES = 512
_KEPT_BYTES = 32 << 20

_Piece: TypeAlias = dict[str, Fingerprint]


class Fingerprints:
    """Computes fingerprints where chunks are made, in turn with them.

    Args:
        chunks: makes the values.
        backend: name of the backend that they come from.
        threads: how many pieces of one caller are computed at the same time.
    """

    def __init__(self, chunks: Chunks, backend: str, threads: int) -> None:
        self._chunks = chunks
        self._backend = backend
        self._threads = threads
        self._pieces = Herd(LatestValues[_Piece](_KEPT_BYTES, _weight))

    def of(self, file: VirtualFile, caller: Caller) -> _Piece:
        """The fingerprint of each tensor's wanted part; empty tensors are left out.

        Raises:
            DroppedError: as soon as the caller hangs up.
        """
        total: _Piece = {}
        left = _ranges(file)
        ahead: deque[Wish[_Piece]] = deque()
        try:
            while True:
                while len(ahead) < self._threads and (piece := next(left, None)):
                    ahead.append(self._wish(file, *piece))
                    caller.waits_for(ahead[-1])
                if not ahead:
                    return total
                for name, part in ahead[0].result().items():
                    total[name] = total.get(name, Fingerprint()) + part
                caller.has(ahead.popleft())
        finally:
            for wish in ahead:
                wish.drop()
                caller.has(wish)

    def _wish(self, file: VirtualFile, low: int, high: int) -> Wish[_Piece]:
        def make(begin: int, data: memoryview) -> _Piece:
            return fingerprints_between(file, begin, begin + len(data), data, mixer(self._backend))

        key = (file.layout.digest, file.size, low, high)
        return self._pieces.wish(self._chunks.task(key, file, low, high, make))


def _ranges(file: VirtualFile) -> Iterator[tuple[int, int]]:
    """The file's data, cut where chunks are; that never cuts an element."""
    low = file.layout.data_begin
    while low < file.size:
        high = min(low - low % CHUNK_BYTES + CHUNK_BYTES, file.size)
        yield low, high
        low = high


def _weight(piece: _Piece) -> int:
    return sum(_ITEM_BYTES + 4 * len(name) for name in piece)
