"""Patterns: constants, and tensors that are zero except at a lattice of points, which have a rule.

The points may lie anywhere in the tensor; only those among the elements asked for are visited.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend
from initcore.generate.regions import Points, Positions, Region
from initcore.machine import available_cpus, populate, run_all
from initcore.resolve import Constant, DeltaOrthogonal, Hadamard, Lattice
from initcore.stream import encode_samples

# Points handled together.
_BLOCK = 1 << 20

# Bytes from which a call of the backend is faster than NumPy.
_LARGE = 1 << 20

# Bytes that a thread sets at a time.
_STRETCH = 4 << 20

_ValueOf: TypeAlias = Callable[[Positions], Any]
"""Values, in the storage type, of points by their numbers."""


def fill_constant(backend: Backend, content: Constant, out: NDArray[Any]) -> None:
    """Writes one value everywhere.

    Args:
        backend: sets much memory at once, where it can.
        content: the value.
        out: elements in the storage type, or in unsigned integers of its size.
    """
    if len(out):
        _set_all(backend, content.pattern, out)


def fill_lattice(
    backend: Backend, region: Region | Points, lattice: Lattice, first: int, out: NDArray[Any]
) -> None:
    """Writes the lattice's pattern at its points, and zeros elsewhere.

    Args:
        backend: as in `fill_constant`.
        region: what is wanted of the tensor.
        lattice: the points.
        first: position in the region of out's first element.
        out: elements first .. first + len(out) - 1 of the region, in the storage type.
    """
    value = np.frombuffer(lattice.pattern, dtype=out.dtype)[0]
    _scatter(backend, region, lattice, first, out, lambda number: value)


def fill_hadamard(
    backend: Backend, region: Region | Points, content: Hadamard, first: int, out: NDArray[Any]
) -> None:
    """Writes the signed entries of a Hadamard matrix at the centre tap, and zeros elsewhere.

    Arguments are as in `fill_lattice`.
    """
    if content.taps == 1 and isinstance(region, Region):
        _fill_signs(region, content, first, out)
        return
    signs = [np.frombuffer(b, dtype=out.dtype)[0] for b in (content.positive, content.negative)]
    values = np.array(signs, dtype=out.dtype)

    def value_of(number: Positions) -> NDArray[Any]:
        row, column = np.divmod(number, np.uint64(content.inputs))
        return values[_parity(row & column).astype(np.intp)]

    count = content.outputs * content.inputs
    lattice = Lattice(b"", content.centre, content.taps, count, count * content.taps, 1)
    _scatter(backend, region, lattice, first, out, value_of)


def _fill_signs(region: Region, content: Hadamard, first: int, out: NDArray[Any]) -> None:
    """A Hadamard matrix without taps, by rows: +c and -c differ in bits that do not depend on i.

    With i = 256 h + l, the sign of [o, i] is that of [o, 256 h] times that of [o, l]: one
    operation an element makes a row of two short ones.
    """
    bits = out.view(f"u{out.itemsize}")
    positive, negative = (
        np.frombuffer(b, dtype=bits.dtype)[0] for b in (content.positive, content.negative)
    )
    flip = positive ^ negative
    top = region.bounds[0][0]
    left, right = region.bounds[1]
    width, done = right - left, 0
    while done < len(bits):
        row, inside = divmod(first + done, width)
        rows = min((len(bits) - done) // width, max(1, _BLOCK // width))
        if inside or not rows:
            rows, begin, end = 1, left + inside, min(right, left + inside + len(bits) - done)
        else:
            begin, end = left, right
        o = np.arange(top + row, top + row + rows, dtype=np.uint64)
        h = np.arange(begin >> 8, ((end - 1) >> 8) + 1, dtype=np.uint64)
        near = (
            _parities()[(o & np.uint64(255)).astype(np.intp)].astype(bits.dtype) * flip ^ positive
        )
        far = _parity((o >> np.uint64(8))[:, None] & h).astype(bits.dtype) * flip
        made = (far[:, :, None] ^ near[:, None, :]).reshape(rows, -1)
        size = end - begin
        bits[done : done + rows * size].reshape(rows, size)[...] = made[:, begin & 255 :][:, :size]
        done += rows * size


def _set_all(backend: Backend, pattern: bytes, out: NDArray[Any]) -> None:
    """Sets all elements: on all CPUs that this process may use, since one core does not use all
    that the memory gives."""
    # Not isinstance: for a protocol it takes 13 microseconds in Python 3.11.
    set_memory = getattr(backend, "fill_constant", None)
    if set_memory is not None and out.nbytes >= _LARGE:
        set_memory(pattern, out)
        return
    value = np.frombuffer(pattern, dtype=out.dtype)[0]
    if out.nbytes < 2 * _STRETCH:
        out[:] = value
        return
    step = _STRETCH // out.itemsize

    def work(first: int) -> None:
        part = out[first : first + step]
        populate(part)
        part[:] = value

    run_all(work, range(0, len(out), step), available_cpus())


def _parity(number: NDArray[Any]) -> NDArray[Any]:
    """1 for numbers with an odd number of ones."""
    for half in (32, 16, 8, 4, 2, 1):
        number = number ^ (number >> np.uint64(half))
    return number & np.uint64(1)


@cache
def _parities() -> NDArray[np.uint8]:
    """The parity of j & k, for all numbers of 8 bits."""
    number = np.arange(256, dtype=np.uint64)
    return _parity(number[:, None] & number).astype(np.uint8)


def fill_delta(
    backend: Backend,
    region: Region | Points,
    content: DeltaOrthogonal,
    matrix: NDArray[np.float32],
    dtype: str,
    first: int,
    out: NDArray[Any],
) -> None:
    """Writes an orthogonal matrix at the centre tap, and zeros elsewhere.

    Args:
        backend: as in `fill_constant`.
        region: what is wanted of the tensor.
        content: the place of the centre tap.
        matrix: float32 array of shape (outputs, inputs).
        dtype: name of the element type.
        first: position in the region of out's first element.
        out: elements first .. first + len(out) - 1 of the region, in the storage type.
    """
    count = content.outputs * content.inputs
    if content.layout == "torch":
        start, step, values = content.centre, content.taps, matrix.reshape(-1)
    else:
        start, step, values = content.centre * count, 1, matrix.T

    def value_of(number: Positions) -> NDArray[Any]:
        if content.layout == "torch":
            return encode_samples(values[number], dtype)
        i, o = np.divmod(number, np.uint64(content.outputs))
        return encode_samples(values[i, o], dtype)

    lattice = Lattice(b"", start, step, count, content.taps * count, 1)
    _scatter(backend, region, lattice, first, out, value_of)


def _scatter(
    backend: Backend,
    region: Region | Points,
    lattice: Lattice,
    first: int,
    out: NDArray[Any],
    value_of: _ValueOf,
) -> None:
    """Zeros, and value_of(number) at the points of a lattice, numbered through all blocks."""
    _set_all(backend, bytes(out.itemsize), out)
    if not len(out) or not lattice.count * lattice.blocks:
        return
    if isinstance(region, Points):
        number, places = _points_among(region.positions[first : first + len(out)], lattice)
        out[places] = value_of(number)
        return
    low = _points_below(lattice, region.to_global(first))
    high = _points_below(lattice, region.to_global(first + len(out) - 1) + 1)
    for start in range(low, high, _BLOCK):
        number = np.arange(start, min(start + _BLOCK, high), dtype=np.uint64)
        block, k = np.divmod(number, np.uint64(lattice.count))
        index = block * np.uint64(lattice.block) + np.uint64(lattice.first)
        index += k * np.uint64(lattice.step)
        if region.sizes != region.shape:
            inside, index = region.to_local(index)
            number = number[inside]
        out[index - np.uint64(first)] = value_of(number)


def _points_among(positions: Positions, lattice: Lattice) -> tuple[Positions, Positions]:
    """Which of these positions are points of a lattice: the points' numbers, and where they are."""
    block, rest = np.divmod(positions, np.uint64(max(lattice.block, 1)))
    # Positions before the first point wrap to large numbers.
    k, off = np.divmod(rest - np.uint64(lattice.first), np.uint64(lattice.step))
    found = (off == 0) & (rest >= lattice.first) & (k < lattice.count) & (block < lattice.blocks)
    at = np.flatnonzero(found)
    return block[at] * np.uint64(lattice.count) + k[at], at.astype(np.uint64)


def _points_below(lattice: Lattice, index: int) -> int:
    """How many points of the lattice come before a global index."""
    block, rest = divmod(index, lattice.block)
    in_block = -(-(rest - lattice.first) // lattice.step) if rest > lattice.first else 0
    return min(block, lattice.blocks) * lattice.count + (
        min(in_block, lattice.count) if block < lattice.blocks else 0
    )
