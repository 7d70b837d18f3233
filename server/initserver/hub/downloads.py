"""Downloads of weights: a range of a file with its own header, from chunks of the plan's file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

from initserver.hub.revisions import Weights
from initserver.rpc import InitService
from initserver.values import Caller
from initserver.wire import OutgoingChunk


class Download:
    """Bytes begin .. end - 1 of a file of weights. For threads: every method may wait.

    Args:
        service: computes them.
        weights: the file.
        begin: the first byte.
        end: the byte past the last.
        caller: the call; when it is cancelled, `take` returns.
    """

    def __init__(
        self, service: InitService, weights: Weights, begin: int, end: int, caller: Caller
    ) -> None:
        self._service = service
        self._plan = weights.plan
        shift = weights.data_begin - len(weights.header)
        self._begin = max(begin, len(weights.header)) + shift
        self._end = end + shift
        self._head = weights.header[begin:end]
        self._caller = caller
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._is_closed = False
        self._chunks: Iterator[OutgoingChunk | None] = iter(())

    def open(self) -> None:
        """Takes a slot for the download and begins to compute.

        Raises:
            Refusal: if there is no slot, or the range is above a limit.
        """
        with self._lock:
            # A header alone is at hand.
            if self._begin < self._end and not self._is_closed:
                self._chunks = self._stack.enter_context(
                    self._service.download(self._plan, self._begin, self._end, self._caller)
                )

    def take(self) -> bytes | memoryview | None:
        """The next bytes; None when the end was reached, or the call was cancelled."""
        with self._lock:
            # None stands for work that takes long.
            found = (chunk.data for chunk in self._chunks if chunk is not None)
            data: bytes | memoryview | None = next(found, None)
            if self._head:
                # With the first chunk, so that a reader that takes nothing is noticed here too.
                data, self._head = self._head + (data or b""), b""
            return data

    def close(self) -> None:
        """Frees the slot and what was computed ahead."""
        self._caller.cancel()
        with self._lock:
            self._is_closed = True
            self._chunks = iter(())
            self._stack.close()
