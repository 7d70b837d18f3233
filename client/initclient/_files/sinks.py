"""Sinks take the bytes of a download, into memory or a file: any range, order and thread."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol

import numpy as np
from initcore import Entry, Layout
from initcore.machine import new_memory, populate
from numpy.typing import NDArray

from initclient._machine import os


class Sink(Protocol):
    """Takes bytes by their position in the file; calls for different ranges may run at once."""

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Writes all bytes to their place."""
        ...


class Buffer:
    """A file's bytes in memory, from which its tensors are taken as arrays.

    Args:
        layout: the file.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._bytes = new_memory(layout.size)

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Puts bytes in their place."""
        part = self._bytes[offset : offset + len(data)]
        populate(part)
        part[:] = np.frombuffer(data, dtype=np.uint8)

    def read(self, offset: int, count: int) -> bytes:
        """Bytes from an offset on."""
        return self._bytes[offset : offset + count].tobytes()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors in the plan's order: writable, and views of one block of memory."""
        return {entry.tensor.name: self._array(entry) for entry in self._layout.entries}

    def _array(self, entry: Entry) -> NDArray[Any]:
        tensor = entry.tensor
        part = self._bytes[entry.begin : entry.end]
        if part.ctypes.data % tensor.dtype.itemsize:
            part = part.copy()
        return part.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


class Scattered:
    """Ranges of a file, each in memory of its own.

    Args:
        places: position of a range's first byte in the file, and its memory. Ranges do not
            overlap.
    """

    def __init__(self, places: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
        filled = [(begin, begin + place.size, place) for begin, place in places if place.size]
        self._places = sorted(filled, key=lambda each: each[0])
        self._ends = [end for _, end, _ in self._places]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges in order, as (begin, end), neighbours joined."""
        joined: list[tuple[int, int]] = []
        for begin, end, _ in self._places:
            if joined and joined[-1][1] == begin:
                joined[-1] = joined[-1][0], end
            else:
                joined.append((begin, end))
        return joined

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Puts bytes in their place; drops bytes outside all ranges."""
        values = np.frombuffer(data, dtype=np.uint8)
        stop = offset + len(values)
        for begin, end, place in self._places[bisect_right(self._ends, offset) :]:
            if begin >= stop:
                break
            first, last = max(begin, offset), min(end, stop)
            place[first - begin : last - begin] = values[first - offset : last - offset]


class InOrder:
    """A stream, such as standard output, which takes a file's bytes in their order alone.

    Args:
        stream: takes bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Writes the next bytes.

        Raises:
            OSError: if they cannot be written.
        """
        assert offset == self._position, (offset, self._position)
        while data:
            # Standard output takes only a part where the reader of its pipe leaves, if
            # PYTHONUNBUFFERED is set. The next call says what is wrong.
            taken = self._stream.write(data)
            self._position += taken
            data = data[taken:]


class FileSink:
    """An open file.

    Args:
        descriptor: a file on disk, open for writing.
        path: its name, for errors.
        shift: offset of a byte in this file minus its offset in the plan's file.
    """

    def __init__(self, descriptor: int, path: str | os.PathLike[str], shift: int = 0) -> None:
        self._descriptor = descriptor
        self._path = path
        self._shift = shift

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Writes bytes to their place.

        Raises:
            OSError: if they cannot be written.
        """
        offset += self._shift
        try:
            while data:
                # A call may write only a part, near a full disk or a limit.
                count = os.pwrite(self._descriptor, data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self._path)) from error
