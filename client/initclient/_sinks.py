"""Where the bytes of a download go: memory, or a file. Any range, in any order, by any thread."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Protocol

import numpy as np
from initcore import Entry, Layout
from numpy.typing import NDArray


class Sink(Protocol):
    """Takes bytes by their position in the file; calls for different places may overlap."""

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Puts all of the bytes where they belong."""
        ...


class Buffer:
    """A file's bytes in memory, from which its tensors are taken as arrays.

    Args:
        layout: the file.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._bytes = np.empty(layout.size, dtype=np.uint8)

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Puts bytes in their place."""
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, dtype=np.uint8)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors in the plan's order: writable, and views of one block of memory."""
        return {entry.tensor.name: self._array(entry) for entry in self._layout.entries}

    def _array(self, entry: Entry) -> NDArray[Any]:
        tensor = entry.tensor
        part = self._bytes[entry.begin : entry.end]
        if part.ctypes.data % tensor.dtype.itemsize:
            part = part.copy()
        return part.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


class FileSink:
    """An open file.

    Args:
        file: a file on disk, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Writes bytes to their place.

        Raises:
            OSError: if they cannot be written.
        """
        while data:
            # A call may write less than all, near a full disk or a limit.
            count = os.pwrite(self._descriptor, data, offset)
            data, offset = data[count:], offset + count
