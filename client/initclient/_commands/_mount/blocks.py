"""Blocks of files in memory: all readers share each one, and sequential reads find the next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from initclient._machine import here

Make = Callable[[int], memoryview]
"""Makes the block of an index."""


class Blocks:
    """The blocks that were read last, least recently used first.

    Args:
        most: how many blocks stay in memory.
        ahead: how many blocks are made before a sequential reader asks for them.
    """

    def __init__(self, most: int, ahead: int) -> None:
        # A reader and the blocks ahead of it must not evict one another.
        self._most = max(most, ahead + 2)
        self._ahead = ahead
        self._blocks: OrderedDict[tuple[Hashable, int], Future[memoryview]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, file: Hashable, index: int, count: int, make: Make) -> memoryview:
        """A block, made by the first of its readers.

        Args:
            file: names the file.
            index: the block.
            count: number of blocks of the file.
            make: makes a block.

        Raises:
            Exception: as `make` does, to all readers who wait; the next reader tries again.
        """
        with self._lock:
            block, is_new = self._claim(file, index)
            # Only a reader that came from the block before is sequential: readers of tensors
            # here and there would pay for blocks that they never read.
            following = range(0)
            if index == 0 or (file, index - 1) in self._blocks:
                following = range(index + 1, min(index + 1 + self._ahead, count))
            claimed = [(number, *self._claim(file, number)) for number in following]
        for number, future, unmade in claimed:
            if unmade:
                self._start(file, number, future, make)
        if is_new:
            self._make(file, index, block, make)
        return block.result()

    def _claim(self, file: Hashable, index: int) -> tuple[Future[memoryview], bool]:
        """The future of a block, and whether the caller is the one who makes it."""
        key = (file, index)
        found = self._blocks.get(key)
        if found is not None:
            self._blocks.move_to_end(key)
            return found, False
        self._blocks[key] = new = Future[memoryview]()
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        return new, True

    def _start(self, file: Hashable, index: int, future: Future[memoryview], make: Make) -> None:
        def work() -> None:
            self._make(file, index, future, make)

        try:
            here().start(work, "initclient-mount")
        except RuntimeError:
            # A limit on threads, such as a container's. Readers may wait for the block already.
            work()

    def _make(self, file: Hashable, index: int, future: Future[memoryview], make: Make) -> None:
        try:
            future.set_result(make(index))
        except BaseException as error:
            with self._lock:
                if self._blocks.get((file, index)) is future:
                    del self._blocks[file, index]
            future.set_exception(error)
