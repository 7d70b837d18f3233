"""From a resolved tensor to its elements: any range of the wanted part, on any backend."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend
from initcore.errors import CheckpointError
from initcore.generate import matrices
from initcore.generate.checkpoints import Checkpoints
from initcore.generate.leaves import Points, boxes_of, large_leaves, positions_of, spread
from initcore.generate.matrices import (
    Matrices,
    Matrix,
    MatrixCache,
    Pulse,
    sparse_windows,
    sparse_windows_of,
)
from initcore.generate.regions import Region
from initcore.resolve import (
    Box,
    Composed,
    Constant,
    DeltaOrthogonal,
    Hadamard,
    Lattice,
    Orthogonal,
    Pretrained,
    Resolved,
    Sampled,
    Sparse,
    reshaped,
    shares,
)
from initcore.stream import VALUE, Job, Runs, Stream, derive, encode_samples

# Elements handled together by the host code below (not by the backends).
_BLOCK = 1 << 20


class Generator:
    """Fills arrays with the elements of resolved tensors.

    Args:
        backend: what draws the samples.
        cache: where matrices are kept between calls.
        checkpoints: where `pretrained` tensors are read.
        pulse: called now and then during long work; what it raises ends the work.
    """

    def __init__(
        self,
        backend: Backend,
        cache: Matrices | None = None,
        checkpoints: Checkpoints | None = None,
        pulse: Pulse = lambda: None,
    ) -> None:
        self.backend = backend
        self.pulse = pulse
        self.cache = cache or MatrixCache()
        self.checkpoints = checkpoints

    def needs(self, tensor: Resolved, first: int, count: int) -> Iterator[Matrix]:
        """The matrices that `fill` takes from the cache for these elements."""
        content = tensor.content
        if isinstance(content, Orthogonal | DeltaOrthogonal):
            yield self._matrix(tensor, content)
        elif isinstance(content, Sparse):
            for window in sparse_windows(content, tensor.bounds[1], first, count):
                yield self._bounds(tensor, content, *window)
        elif isinstance(content, Composed) and _has_matrices(tensor):
            for at in range(0, count, _BLOCK):
                yield from self._needs_of_block(tensor, first + at, min(_BLOCK, count - at))

    def _needs_of_block(self, tensor: Resolved, first: int, count: int) -> Iterator[Matrix]:
        block = boxes_of(tensor, first, count)
        leaves = large_leaves(tensor, block, count)
        if leaves is not None:
            for leaf in leaves:
                yield from self.needs(leaf, 0, leaf.count)
            return
        for leaf, positions, _ in spread(tensor, positions_of(tensor.shape, block), self.pulse):
            content = leaf.content
            if isinstance(content, Sparse):
                for window in sparse_windows_of(content, positions):
                    yield self._bounds(leaf, content, *window)
            else:
                yield from self.needs(leaf, 0, leaf.count)

    def fill(self, tensor: Resolved, first: int, out: NDArray[Any]) -> None:
        """Writes elements first .. first + len(out) - 1 of the wanted part into out.

        Args:
            tensor: the tensor.
            first: row-major position of the first element in the wanted part.
            out: contiguous, aligned, 1-D array of `tensor.dtype.storage` (or, for integer
                types, of unsigned integers of that size), on the host.
        """
        self._fill(tensor, first, out)
        if tensor.zero_rows:
            _clear_rows(tensor, first, out)

    def _fill(
        self, tensor: Resolved, first: int, out: NDArray[Any], points: Points | None = None
    ) -> None:
        content = tensor.content
        if isinstance(content, Constant):
            if len(out):
                out[:] = np.frombuffer(content.pattern, dtype=out.dtype)[0]
            return
        if isinstance(content, Composed):
            self._fill_composed(tensor, first, out)
            return
        region = points or Region(tensor.shape, tensor.bounds)
        if isinstance(content, Sampled):
            job = Job(content.draw, self._values(tensor), tensor.dtype.name)
            for offset, runs in region.runs(first, len(out)):
                self.backend.fill(job, runs, out[offset : offset + runs.count])
        elif isinstance(content, Lattice):
            self._fill_lattice(region, content, first, out)
        elif isinstance(content, Hadamard):
            _fill_hadamard(region, content, first, out)
        elif isinstance(content, Orthogonal):
            self._fill_orthogonal(tensor, region, content, first, out)
        elif isinstance(content, DeltaOrthogonal):
            self._fill_delta(tensor, region, content, first, out)
        elif isinstance(content, Pretrained):
            if self.checkpoints is None:
                raise CheckpointError("tensors of a checkpoint need the folder of checkpoints")
            for at in range(0, len(out), _BLOCK):
                for offset, runs in region.runs(first + at, min(_BLOCK, len(out) - at)):
                    values = self.checkpoints.read(content, runs, tensor.dtype.itemsize)
                    out[at + offset : at + offset + runs.count] = values.view(out.dtype)
        else:
            self._fill_sparse(tensor, region, content, first, out)

    def _fill_composed(self, tensor: Resolved, first: int, out: NDArray[Any]) -> None:
        for at in range(0, len(out), _BLOCK):
            self.pulse()
            part = out[at : at + _BLOCK]
            block = boxes_of(tensor, first + at, len(part))
            if large_leaves(tensor, block, len(part)) is None:
                self._fill_points(tensor, positions_of(tensor.shape, block), part)
                continue
            done = 0
            for box in block:
                sizes = [stop - start for start, stop in box]
                end = done + math.prod(sizes)
                self._fill_box(tensor, box, part[done:end].reshape(sizes))
                done = end

    def _fill_points(self, tensor: Resolved, positions: Any, out: NDArray[Any]) -> None:
        """Writes the elements at any positions of the whole tensor."""
        out[:] = 0
        for leaf, inside, places in spread(tensor, positions, self.pulse):
            values = np.empty(len(inside), dtype=out.dtype)
            self._fill(leaf, 0, values, Points(inside))
            if leaf.zero_rows:
                row = inside // np.uint64(math.prod(leaf.shape[1:]))
                values[np.isin(row, np.array(leaf.zero_rows, dtype=np.uint64))] = 0
            out[places] = values

    def _fill_box(self, tensor: Resolved, box: Box, out: NDArray[Any]) -> None:
        """Writes a box of the whole tensor into an array of its shape and any strides."""
        content = tensor.content
        if not isinstance(content, Composed):
            part = replace(tensor, bounds=box)
            if out.flags.c_contiguous:
                self.fill(part, 0, out.reshape(-1))
            else:
                values = np.empty(out.size, dtype=out.dtype)
                self.fill(part, 0, values)
                out[...] = values.reshape(out.shape)
            return
        shapes = [part.shape for part in tensor.parts]
        if content.scheme == "reshape":
            values = np.empty(out.size, dtype=out.dtype)
            done = 0
            for run in reshaped(tensor.shape, shapes[0], box):
                for inner in run:
                    sizes = [stop - start for start, stop in inner]
                    end = done + math.prod(sizes)
                    self._fill_box(tensor.parts[0], inner, values[done:end].reshape(sizes))
                    done = end
            out[...] = values.reshape(out.shape)
        else:
            for number, inner, view in shares(content, shapes, box):
                self._fill_box(tensor.parts[number], inner, view(out))
        if tensor.zero_rows:
            start, stop = box[0]
            for row in tensor.zero_rows:
                if start <= row < stop:
                    out[row - start] = 0

    def _values(self, tensor: Resolved) -> Stream:
        return derive(VALUE, tensor.seed, tensor.stream_name)

    def _fill_lattice(
        self, region: Region | Points, lattice: Lattice, first: int, out: NDArray[Any]
    ) -> None:
        value = np.frombuffer(lattice.pattern, dtype=out.dtype)[0]
        _scatter(region, lattice, first, out, lambda number: value)

    def _fill_delta(
        self,
        tensor: Resolved,
        region: Region | Points,
        content: DeltaOrthogonal,
        first: int,
        out: NDArray[Any],
    ) -> None:
        matrix = self.cache.get(self._matrix(tensor, content))
        count = content.outputs * content.inputs
        if content.layout == "torch":
            start, step, values = content.centre, content.taps, matrix.reshape(-1)
        else:
            start, step, values = content.centre * count, 1, matrix.T

        def value_of(number: NDArray[np.uint64]) -> NDArray[Any]:
            if content.layout == "torch":
                return encode_samples(values[number], tensor.dtype.name)
            i, o = np.divmod(number, np.uint64(content.outputs))
            return encode_samples(values[i, o], tensor.dtype.name)

        lattice = Lattice(b"", start, step, count, content.taps * count, 1)
        _scatter(region, lattice, first, out, value_of)

    def _matrix(self, tensor: Resolved, content: Orthogonal | DeltaOrthogonal) -> Matrix:
        seed, name = tensor.seed, tensor.stream_name
        if isinstance(content, Orthogonal):
            count = content.rows * content.columns
        else:
            count = content.outputs * content.inputs
        return Matrix(
            (seed, name, content),
            count,
            4 * count,
            lambda pulse: matrices.orthogonal_values(content, seed, name, self.backend, pulse),
        )

    def _bounds(self, tensor: Resolved, content: Sparse, left: int, right: int) -> Matrix:
        seed, name = tensor.seed, tensor.stream_name
        return Matrix(
            (seed, name, content, left, right),
            content.rows * (right - left),
            8 * (right - left),
            lambda pulse: matrices.sparse_thresholds(
                content, seed, name, left, right, self.backend, pulse
            ),
        )

    def _fill_orthogonal(
        self,
        tensor: Resolved,
        region: Region | Points,
        content: Orthogonal,
        first: int,
        out: NDArray[Any],
    ) -> None:
        flat = self.cache.get(self._matrix(tensor, content)).reshape(-1)
        for at in range(0, len(out), _BLOCK):
            for offset, runs in region.runs(first + at, min(_BLOCK, len(out) - at)):
                values = flat[_positions(runs)]
                begin = at + offset
                out[begin : begin + runs.count] = encode_samples(values, tensor.dtype.name)

    def _fill_sparse(
        self,
        tensor: Resolved,
        region: Region | Points,
        content: Sparse,
        first: int,
        out: NDArray[Any],
    ) -> None:
        values = Job(content.draw, self._values(tensor), tensor.dtype.name)
        mask = matrices.mask_job(tensor.seed, tensor.stream_name)
        words = np.empty(min(_BLOCK, len(out)), dtype=np.uint32)
        for at in range(0, len(out), _BLOCK):
            count = min(_BLOCK, len(out) - at)
            if isinstance(region, Points):
                found = sparse_windows_of(
                    content, region.positions[first + at : first + at + count]
                )
            else:
                found = sparse_windows(content, region.bounds[1], first + at, count)
            windows = [
                (left, right, self.cache.get(self._bounds(tensor, content, left, right)))
                for left, right in found
            ]
            for offset, runs in region.runs(first + at, count):
                part = out[at + offset : at + offset + runs.count]
                self.backend.fill(values, runs, part)
                self.backend.fill(mask, runs, words[: runs.count])
                row, column = np.divmod(_positions(runs), np.uint64(content.columns))
                keys = (words[: runs.count].astype(np.uint64) << np.uint64(32)) | row
                for left, right, bounds in windows:
                    inside = np.flatnonzero((column >= left) & (column < right))
                    dropped = keys[inside] < bounds[column[inside] - np.uint64(left)]
                    part[inside[dropped]] = 0


def _fill_hadamard(
    region: Region | Points, content: Hadamard, first: int, out: NDArray[Any]
) -> None:
    signs = [np.frombuffer(b, dtype=out.dtype)[0] for b in (content.positive, content.negative)]
    values = np.array(signs, dtype=out.dtype)

    def value_of(number: NDArray[np.uint64]) -> NDArray[Any]:
        row, column = np.divmod(number, np.uint64(content.inputs))
        common = row & column
        # The parity of its ones, folded into the lowest bit.
        for half in (32, 16, 8, 4, 2, 1):
            common = common ^ (common >> np.uint64(half))
        return values[(common & np.uint64(1)).astype(np.intp)]

    count = content.outputs * content.inputs
    lattice = Lattice(b"", content.centre, content.taps, count, count * content.taps, 1)
    _scatter(region, lattice, first, out, value_of)


def _has_matrices(tensor: Resolved) -> bool:
    if isinstance(tensor.content, Orthogonal | DeltaOrthogonal | Sparse):
        return True
    return any(_has_matrices(part) for part in tensor.parts)


def _clear_rows(tensor: Resolved, first: int, out: NDArray[Any]) -> None:
    """Zeros in those rows of the whole tensor that are zero whatever is drawn."""
    start, stop = tensor.bounds[0]
    size = math.prod(tensor.shard_shape[1:])
    rows = tensor.zero_rows
    for row in rows[bisect_left(rows, start) : bisect_left(rows, stop)]:
        begin = (row - start) * size - first
        out[max(begin, 0) : max(begin + size, 0)] = 0


def _positions(runs: Runs) -> NDArray[np.uint64]:
    offsets = np.arange(runs.length, dtype=np.uint64)
    return (runs.starts[:, None] + offsets).reshape(-1)


def _scatter(
    region: Region | Points,
    lattice: Lattice,
    first: int,
    out: NDArray[Any],
    value_of: Callable[[NDArray[np.uint64]], Any],
) -> None:
    """Zeros, and value_of(number) at the points of a lattice, numbered through all blocks."""
    out[:] = 0
    if not len(out) or not lattice.count * lattice.blocks:
        return
    if isinstance(region, Points):
        number, places = region.lattice(lattice, first, len(out))
        out[places] = value_of(number)
        return
    low = _points_below(lattice, region.to_global(first))
    high = _points_below(lattice, region.to_global(first + len(out) - 1) + 1)
    for start in range(low, high, _BLOCK):
        number = np.arange(start, min(start + _BLOCK, high), dtype=np.uint64)
        block, k = np.divmod(number, np.uint64(lattice.count))
        index = block * np.uint64(lattice.block) + np.uint64(lattice.first)
        index += k * np.uint64(lattice.step)
        inside, local = region.to_local(index)
        out[local - np.uint64(first)] = value_of(number[inside])


def _points_below(lattice: Lattice, index: int) -> int:
    """How many points of the lattice come before a global index."""
    block, rest = divmod(index, lattice.block)
    in_block = -(-(rest - lattice.first) // lattice.step) if rest > lattice.first else 0
    return min(block, lattice.blocks) * lattice.count + (
        min(in_block, lattice.count) if block < lattice.blocks else 0
    )
