"""From a resolved tensor to its elements: any range of the wanted part, on any backend."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend
from initcore.errors import CheckpointError
from initcore.generate import matrices
from initcore.generate.checkpoints import Checkpoints
from initcore.generate.derived import box_of, fill_applied, fill_norm
from initcore.generate.leaves import boxes_of, large_leaves, positions_of, spread
from initcore.generate.matrices import (
    Matrices,
    Matrix,
    MatrixCache,
    Pulse,
    sparse_windows,
    sparse_windows_of,
)
from initcore.generate.patterns import fill_constant, fill_delta, fill_hadamard, fill_lattice
from initcore.generate.regions import Points, Region, region_of
from initcore.generate.sparse_mask import drop
from initcore.resolve import (
    Applied,
    Box,
    Composed,
    Constant,
    DeltaOrthogonal,
    Hadamard,
    Lattice,
    LiteralValues,
    Norm,
    Orthogonal,
    Pretrained,
    Resolved,
    Sampled,
    Sparse,
    reshaped,
    shares,
)
from initcore.stream import VALUE, Job, Stream, derive, encode_samples

# Elements handled together by the host code below (not by the backends).
_BLOCK = 1 << 20


class Generator:
    """Fills arrays with the elements of resolved tensors.

    Args:
        backend: what draws the samples.
        cache: where matrices are kept between calls.
        checkpoints: where `pretrained` tensors are read.
        pulse: called now and then during long work; an exception that it raises ends the work.
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
        elif isinstance(content, Applied):
            yield from self.needs(replace(tensor.parts[0], bounds=tensor.bounds), first, count)
        elif isinstance(content, Norm) and _has_matrices(tensor):
            region = Region(tensor.shape, tensor.bounds)
            for position in range(first, first + count):
                box = box_of(tensor.parts[0].shape, content, region.to_global(position))
                row = replace(tensor.parts[0], bounds=box)
                yield from self.needs(row, 0, row.count)
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

    def fill(
        self, tensor: Resolved, first: int, out: NDArray[Any], points: Points | None = None
    ) -> None:
        """Writes elements first .. first + len(out) - 1 of the wanted part into out.

        Args:
            tensor: the tensor.
            first: row-major position of the first element in the wanted part.
            out: contiguous, aligned, 1-D array of `tensor.dtype.storage` (or, for integer
                types, of unsigned integers of that size), on the host.
            points: the wanted elements, instead of the tensor's bounds.
        """
        content = tensor.content
        region = points or region_of(tensor.shape, tensor.bounds)
        if isinstance(content, Sampled):
            job = Job(content.draw, _values(tensor), tensor.dtype.name)
            for offset, runs in region.runs(first, len(out)):
                self.backend.fill(job, runs, out[offset : offset + runs.count])
        elif isinstance(content, Constant):
            fill_constant(self.backend, content, out)
        elif isinstance(content, Composed) and points is not None:
            self._fill_points(tensor, points.positions[first : first + len(out)], out)
        elif isinstance(content, Composed):
            self._fill_composed(tensor, first, out)
        elif isinstance(content, LiteralValues):
            values = np.frombuffer(content.pattern, dtype=out.dtype)
            for offset, runs in region.runs(first, len(out)):
                out[offset : offset + runs.count] = values[runs.positions()]
        elif isinstance(content, Applied):
            fill_applied(self.backend, self.fill, tensor, content, first, out, points)
        elif isinstance(content, Norm):
            fill_norm(self.fill, tensor, content, region, first, out, self.pulse)
        elif isinstance(content, Lattice):
            fill_lattice(self.backend, region, content, first, out)
        elif isinstance(content, Hadamard):
            fill_hadamard(self.backend, region, content, first, out)
        elif isinstance(content, Orthogonal):
            self._fill_orthogonal(tensor, region, content, first, out)
        elif isinstance(content, DeltaOrthogonal):
            matrix = self.cache.get(self._matrix(tensor, content))
            fill_delta(self.backend, region, content, matrix, tensor.dtype.name, first, out)
        elif isinstance(content, Pretrained):
            self._fill_pretrained(tensor, region, content, first, out)
        else:
            self._fill_sparse(tensor, region, content, first, out)
        if tensor.zero_rows:
            region.clear_rows(tensor.zero_rows, first, out)

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
            self.fill(leaf, 0, values, Points(leaf.shape, inside))
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
        if content.scheme == "broadcast_to":
            ((_, inner, _),) = shares(content, shapes, box)
            values = np.empty([stop - start for start, stop in inner], dtype=out.dtype)
            self._fill_box(tensor.parts[0], inner, values)
            out[...] = values
        elif content.scheme == "reshape":
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
                values = flat[runs.positions()]
                begin = at + offset
                out[begin : begin + runs.count] = encode_samples(values, tensor.dtype.name)

    def _fill_pretrained(
        self,
        tensor: Resolved,
        region: Region | Points,
        content: Pretrained,
        first: int,
        out: NDArray[Any],
    ) -> None:
        if self.checkpoints is None:
            raise CheckpointError("`pretrained` needs a folder of checkpoints, and none was given")
        for at in range(0, len(out), _BLOCK):
            for offset, runs in region.runs(first + at, min(_BLOCK, len(out) - at)):
                values = self.checkpoints.read(content, runs, tensor.dtype.itemsize)
                out[at + offset : at + offset + runs.count] = values.view(out.dtype)

    def _fill_sparse(
        self,
        tensor: Resolved,
        region: Region | Points,
        content: Sparse,
        first: int,
        out: NDArray[Any],
    ) -> None:
        values = Job(content.draw, _values(tensor), tensor.dtype.name)
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
                if isinstance(region, Region):
                    drop(region.bounds, windows, first + at + offset, words[: runs.count], part)
                    continue
                row, column = np.divmod(runs.positions(), np.uint64(content.columns))
                keys = (words[: runs.count].astype(np.uint64) << np.uint64(32)) | row
                for left, right, bounds in windows:
                    inside = np.flatnonzero((column >= left) & (column < right))
                    dropped = keys[inside] < bounds[column[inside] - np.uint64(left)]
                    part[inside[dropped]] = 0


def _values(tensor: Resolved) -> Stream:
    return derive(VALUE, tensor.seed, tensor.stream_name)


def _has_matrices(tensor: Resolved) -> bool:
    if isinstance(tensor.content, Orthogonal | DeltaOrthogonal | Sparse):
        return True
    return any(_has_matrices(part) for part in tensor.parts)
