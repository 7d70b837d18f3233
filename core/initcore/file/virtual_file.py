"""The virtual safetensors file: any byte range of a plan's file, computed when it is read."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend
from initcore.file.file_layout import Entry, Layout
from initcore.generate import Checkpoints, Generator, Matrices, Matrix, Pulse, Together
from initcore.machine import new_memory
from initcore.resolve import Resolved


class VirtualFile:
    """The safetensors file of a layout, without storage.

    Its only state is the cache of matrices: any number of threads can read any ranges.

    Args:
        layout: the places of header and tensors.
        backend: draws the samples.
        cache: keeps matrices between reads.
        checkpoints: where `pretrained` tensors are read; `Checkpoints.check` comes first.
    """

    def __init__(
        self,
        layout: Layout,
        backend: Backend,
        cache: Matrices | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.layout = layout
        self._generator = Generator(backend, cache, checkpoints)
        self._filled = [entry for entry in layout.data_order if entry.end > entry.begin]
        self._begins = [entry.begin for entry in self._filled]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.layout.size

    @property
    def backend(self) -> Backend:
        """What draws the samples."""
        return self._generator.backend

    def read(self, offset: int, length: int) -> memoryview:
        """Bytes offset .. offset + length - 1, fewer at the end of the file.

        Raises:
            ValueError: if offset lies outside the file or length is negative.
        """
        if not 0 <= offset <= self.size or length < 0:
            raise ValueError(f"range {offset}+{length} lies outside the file of {self.size} bytes")
        out = np.empty(min(length, self.size - offset), dtype=np.uint8)
        self.read_into(offset, out)
        return out.data

    def read_into(self, offset: int, out: NDArray[np.uint8]) -> None:
        """Writes bytes offset .. offset + len(out) - 1 into contiguous memory.

        Args:
            offset: position of the first byte.
            out: 1-D, of unsigned bytes, contiguous; its address is a multiple of eight.

        Raises:
            ValueError: for other memory, or bytes outside the file.
        """
        length = len(out)
        if not 0 <= offset <= self.size - length:
            raise ValueError(f"range {offset}+{length} lies outside the file of {self.size} bytes")
        if out.dtype != np.uint8 or out.ndim != 1 or not out.flags.carray or out.ctypes.data % 8:
            raise ValueError(
                f"the array is {out.dtype.str} {list(out.shape)} at {out.ctypes.data:#x}; give "
                "contiguous, writable unsigned bytes at an address that is a multiple of eight"
            )
        if offset < self.layout.data_begin:
            part = self.layout.header[offset : offset + length]
            out[: len(part)] = np.frombuffer(part, dtype=np.uint8)
        together = Together(self.backend)
        for entry, begin, end in self._parts(offset, length):
            place, tensor = entry.begin + begin - offset, entry.tensor
            values = out[place : place + end - begin]
            # The array is aligned for any element type, so the part is where the offset is.
            whole = end - begin == tensor.nbytes and place % tensor.dtype.itemsize == 0
            if not (whole and together.add(tensor, values)):
                self._read_entry(entry, begin, values)
        together.fill()

    def elements(self, offset: int, length: int) -> Iterator[tuple[Entry, int, int]]:
        """The tensors in a range, each with its first element there and how many there are.

        Elements that the range cuts count as whole.
        """
        for entry, begin, end in self._parts(offset, length):
            size = entry.tensor.dtype.itemsize
            first = begin // size
            yield entry, first, -(-end // size) - first

    def needs(self, offset: int, length: int) -> dict[Hashable, Matrix]:
        """The matrices that a read of this range takes from the cache, by their keys."""
        return {
            matrix.key: matrix
            for entry, first, count in self.elements(offset, length)
            for matrix in self._generator.needs(entry.tensor, first, count)
        }

    def with_cache(self, cache: Matrices, pulse: Pulse = lambda: None) -> VirtualFile:
        """The same file with another cache of matrices.

        Args:
            cache: the cache.
            pulse: called now and then while elements are put together; an exception that it
                raises ends the read.
        """
        other, before = copy.copy(self), self._generator
        other._generator = Generator(before.backend, cache, before.checkpoints, pulse)
        return other

    def _parts(self, offset: int, length: int) -> Iterator[tuple[Entry, int, int]]:
        """The tensors in a range, with the first byte of each and the one past the last."""
        end = min(offset + length, self.size)
        position = max(offset, self.layout.data_begin)
        index = max(bisect_right(self._begins, position) - 1, 0)
        while position < end:
            entry = self._filled[index]
            stop = min(entry.end, end)
            yield entry, position - entry.begin, stop - entry.begin
            position = stop
            index += 1

    def pieces(self, offset: int, length: int, piece: int) -> Iterator[tuple[int, memoryview]]:
        """The range in pieces of at most `piece` bytes, each with its position in the file."""
        end = min(offset + length, self.size)
        for begin in range(offset, end, piece):
            yield begin, self.read(begin, min(piece, end - begin))

    def array(self, entry: Entry) -> NDArray[Any]:
        """A tensor's wanted part as an array of its shape and NumPy type."""
        tensor = entry.tensor
        values = new_memory(tensor.count * tensor.dtype.itemsize).view(tensor.dtype.storage)
        self.fill(entry, values)
        return values.view(tensor.dtype.numpy).reshape(tensor.shard_shape)

    def fill(self, entry: Entry, out: NDArray[Any], *, first: int = 0) -> None:
        """Writes elements of a tensor's wanted part into a flat array of its storage type.

        Args:
            entry: the tensor.
            out: gets as many elements as it has room for.
            first: row-major position of the first one in the wanted part.

        Raises:
            ValueError: for another array, or more elements than the part has from `first` on.
        """
        tensor = entry.tensor
        if not (_takes(tensor, out) and 0 <= first <= tensor.count - len(out)):
            raise _refusal(tensor, out, f"at most {max(tensor.count - first, 0)}", f" from {first}")
        self._generator.fill(tensor, first, out)

    def fill_all(self, pairs: Iterable[tuple[Entry, NDArray[Any]]]) -> None:
        """Writes all elements of each tensor's wanted part, as `fill` does; small ones together.

        Args:
            pairs: each tensor, with its flat array of its storage type, which has to live until
                this call ends.

        Raises:
            ValueError: for another array, or another number of elements than the part has.
        """
        together = Together(self.backend)
        for entry, out in pairs:
            tensor = entry.tensor
            if not (_takes(tensor, out) and len(out) == tensor.count):
                raise _refusal(tensor, out, str(tensor.count))
            if not together.add(tensor, out):
                self._generator.fill(tensor, 0, out)
        together.fill()

    def _read_entry(self, entry: Entry, first_byte: int, out: NDArray[np.uint8]) -> None:
        """Bytes first_byte .. of one tensor; the range may cut elements at both ends."""
        tensor = entry.tensor
        size = tensor.dtype.itemsize
        first = first_byte // size
        last = -(-(first_byte + len(out)) // size)
        whole = first_byte == first * size and len(out) == (last - first) * size
        if whole and out.ctypes.data % size == 0:
            self._generator.fill(tensor, first, out.view(tensor.dtype.storage))
            return
        values = np.empty(last - first, dtype=tensor.dtype.storage)
        self._generator.fill(tensor, first, values)
        skip = first_byte - first * size
        out[:] = values.view(np.uint8)[skip : skip + len(out)]


def _takes(tensor: Resolved, out: NDArray[Any]) -> bool:
    """Whether an array is flat memory for elements: backends write to its address as it is."""
    return out.dtype == tensor.dtype.storage and out.ndim == 1 and out.flags.carray


def _refusal(tensor: Resolved, out: NDArray[Any], count: str, begin: str = "") -> ValueError:
    flags = out.flags
    lacks = {
        "contiguous": flags.c_contiguous,
        "aligned": flags.aligned,
        "writable": flags.writeable,
    }
    found = "".join(f", not {word}" for word, is_so in lacks.items() if not is_so)
    return ValueError(
        f"{tensor.name}: the array is {out.dtype.str} {list(out.shape)}{found}; give a flat, "
        f"contiguous, aligned, writable array of {count} elements{begin} in "
        f"{tensor.dtype.storage.str}"
    )
