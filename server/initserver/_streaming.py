"""Chunks of a file, each made while the one before it is being sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future

from initcore import VirtualFile

from initserver._encoding import OutgoingChunk, checksum


def chunks(
    file: VirtualFile,
    begin: int,
    end: int,
    size: int,
    pool: Executor,
    is_wanted: Callable[[], bool],
) -> Iterator[OutgoingChunk]:
    """Bytes begin .. end - 1 in chunks of at most `size`, one of them made ahead.

    Never more than two chunks exist: the one that is being sent and the next. A call that
    ends early (`is_wanted` turns false, or the iterator is closed) wastes at most the one
    that was being made.

    Args:
        file: what to read.
        begin: position of the first byte.
        end: position past the last one.
        size: bytes of a chunk.
        pool: where the next chunk is made.
        is_wanted: whether somebody still listens; asked before each chunk.
    """

    def make(offset: int) -> OutgoingChunk:
        data = file.read(offset, min(size, end - offset))
        return OutgoingChunk(offset, data, checksum(data))

    ahead: Future[OutgoingChunk] | None = None
    try:
        for offset in range(begin, end, size):
            ready = ahead.result() if ahead else make(offset)
            ahead = None
            if not is_wanted():
                return
            if offset + size < end:
                ahead = pool.submit(make, offset + size)
            yield ready
    finally:
        if ahead:
            ahead.cancel()
