"""Elements that are computed from other tensors' elements, in double: `apply` and `norm`.

Both take the elements of their part from a function, so that parts may be of any scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend, FunctionsBackend
from initcore.generate.regions import Points, Region
from initcore.resolve import Applied, Box, Norm, Resolved
from initcore.stream import Step, apply_steps, encode_doubles, sum_of_squares

Fill: TypeAlias = Callable[[Resolved, int, NDArray[Any], Points | None], None]
"""Writes elements of a tensor, as `Generator.fill` does."""

# Doubles held at once.
_BLOCK = 1 << 20


def fill_applied(
    backend: Backend,
    fill: Fill,
    tensor: Resolved,
    content: Applied,
    first: int,
    out: NDArray[Any],
    points: Points | None,
) -> None:
    """Writes a function of the part's elements.

    Args:
        backend: computes the function, if it can; else NumPy does.
        fill: writes the part's elements.
        tensor: the tensor, of scheme `apply`.
        content: the function.
        first: position in the wanted part of out's first element.
        out: array of the tensor's storage type.
        points: the wanted elements, instead of the tensor's bounds.
    """
    steps, part = _chain(tensor, content)
    dtype = tensor.dtype.name
    values = np.empty(min(len(out), _BLOCK), dtype=np.float64)
    functions = backend if isinstance(backend, FunctionsBackend) else None
    for at in range(0, len(out), _BLOCK):
        some, target = values[: len(out) - at], out[at : at + _BLOCK]
        fill(part, first + at, some, points)
        if functions:
            functions.apply(steps, some, dtype, target)
        else:
            target[:] = encode_doubles(apply_steps(steps, some), dtype)


def fill_norm(
    fill: Fill,
    tensor: Resolved,
    content: Norm,
    region: Region | Points,
    first: int,
    out: NDArray[Any],
    pulse: Callable[[], None] = lambda: None,
) -> None:
    """Writes norms of the part; each takes all elements of its row of the part.

    Arguments are as in `fill_applied`; `region` has the wanted elements, and `pulse` is called
    now and then: one norm may take many elements.
    """
    part = tensor.parts[0]
    for offset, runs in region.runs(first, len(out)):
        positions = runs.positions()
        for number, size, length in _rows(part, content, positions):
            total = None
            # A row may be larger than memory. Blocks are whole groups of the sum.
            for at in range(0, size, _BLOCK):
                pulse()
                rows = np.empty((length, min(_BLOCK, size - at)), dtype=part.dtype.storage)
                for place in range(length):
                    box = box_of(part.shape, content, int(positions[number + place]))
                    fill(replace(part, bounds=box), at, rows[place], None)
                doubles = rows.view(part.dtype.numpy).astype(np.float64)
                total = sum_of_squares(doubles, total)
            norms = np.zeros(length) if total is None else np.sqrt(total)
            begin = offset + number
            out[begin : begin + length] = encode_doubles(norms, tensor.dtype.name)


def box_of(shape: tuple[int, ...], content: Norm, position: int) -> Box:
    """The box of the part whose norm is the element at a position of the tensor."""
    box = [(0, size) for size in shape]
    for axis in reversed(content.axes):
        position, place = divmod(position, shape[axis])
        box[axis] = place, place + 1
    return tuple(box)


def _rows(
    part: Resolved, content: Norm, positions: NDArray[np.uint64]
) -> Iterator[tuple[int, int, int]]:
    """The norms that are made together: the first one's number, a row's elements, and how many."""
    kept = set(content.axes)
    size = math.prod(size for axis, size in enumerate(part.shape) if axis not in kept)
    together = max(_BLOCK // max(size, 1), 1)
    for number in range(0, len(positions), together):
        yield number, size, min(together, len(positions) - number)


def _chain(tensor: Resolved, content: Applied) -> tuple[list[Step], Resolved]:
    """The functions of `apply` in `apply`, the innermost first, and the part that they take.

    A part with zero rows ends the chain: its rows are zero after its function.
    """
    steps, part = [_step(content)], tensor.parts[0]
    while isinstance(part.content, Applied) and not part.zero_rows:
        steps.append(_step(part.content))
        part = part.parts[0]
    return steps[::-1], replace(part, bounds=tensor.bounds)


def _step(content: Applied) -> Step:
    return Step(content.function, content.a, content.b)
