"""Ranges of a plan's file, computed in this process by several threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from initcore import VirtualFile
from initcore.file import BLOCK, Progress

from initclient._files import Sink
from initclient._machine import here
from initclient._source import Request

# Each holds a block and its backend's working memory; more threads would wait for the disk.
_MOST_THREADS = 16


def compute_ranges(
    request: Request,
    sink: Sink,
    progress: Progress | None,
    missing: Sequence[tuple[int, int]],
) -> None:
    """Makes the missing ranges of a file, block by block, and writes them to the sink.

    Args:
        request: the file.
        sink: takes its bytes.
        progress: called with the bytes done and in all, by one thread at a time.
        missing: (begin, end) of each range, in order.
    """
    file = request.open()
    left = sum(end - begin for begin, end in missing)
    work = _Work(file, sink, progress, missing, file.size - left)
    threads = min(here().cpus(), _MOST_THREADS, -(-left // BLOCK))
    if threads <= 1:
        work.run()
        return
    here().run_all([work.run] * threads, "initclient-compute", work.stop)


def compute_in_order(
    request: Request, progress: Progress | None
) -> Iterator[tuple[int, memoryview]]:
    """Makes a whole file, block by block: (offset, bytes), in order.

    Threads work ahead by as many blocks as there are threads.

    Args:
        request: the file.
        progress: called with the bytes done and in all, by the calling thread.
    """
    file = request.open()
    blocks = _blocks([(0, file.size)])
    threads = max(1, min(here().cpus(), _MOST_THREADS))
    with ThreadPoolExecutor(threads, "initclient-compute") as pool:

        def start(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, Future[memoryview]]]:
            return [(begin, pool.submit(file.read, begin, end - begin)) for begin, end in ranges]

        running = deque(start(islice(blocks, 2 * threads)))
        try:
            while running:
                offset, block = running.popleft()
                data = block.result()
                yield offset, data
                running += start(islice(blocks, 1))
                if progress:
                    progress(offset + len(data), file.size)
        finally:
            for _, block in running:
                block.cancel()


class _Work:
    """The missing blocks, shared out among threads."""

    def __init__(
        self,
        file: VirtualFile,
        sink: Sink,
        progress: Progress | None,
        missing: Sequence[tuple[int, int]],
        done: int,
    ) -> None:
        self._file = file
        self._sink = sink
        self._progress = progress
        self._blocks = _blocks(missing)
        self._done = done
        self._stopped = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Makes blocks until none is left."""
        while True:
            with self._lock:
                block = None if self._stopped else next(self._blocks, None)
            if block is None:
                return
            begin, end = block
            self._sink.write_at(begin, self._file.read(begin, end - begin))
            with self._lock:
                self._done += end - begin
                if self._progress and not self._stopped:
                    self._progress(self._done, self._file.size)

    def stop(self) -> None:
        """Ends each thread after its current block."""
        with self._lock:
            self._stopped = True


def _blocks(missing: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges, cut at multiples of a block."""
    for first, last in missing:
        begin = first
        while begin < last:
            end = min((begin // BLOCK + 1) * BLOCK, last)
            yield begin, end
            begin = end
