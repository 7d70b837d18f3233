"""Windows: arithmetic on a part of an array, `x.at[2].add(y)`, and arrays that are split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from initclient._laws import Bounds, NotUnderstoodError, Patch, Source
from initclient.jax._record.arithmetic import combined
from initclient.jax._record.movement import Operand, part_of, scatter_window, written
from initclient.jax._record.pieces import cut, shifted, whole
from initclient.jax._trace import Known, Random

ARITHMETIC = {"scatter-add": "add", "scatter-mul": "mul", "scatter-sub": "sub"}
"""Operations that change a part of an array, and the arithmetic by which they do."""


def changed_window(equation: Any, operands: Sequence[Operand], source: Source | None) -> Random:
    """The array after arithmetic with one window of it.

    Raises:
        NotUnderstoodError: if both sides are drawn, or if the indices name several windows, which
            may overlap.
    """
    x = operands[0]
    window = scatter_window(equation, operands)
    if window is None:
        raise NotUnderstoodError("it changes several parts of an array that has draws", None)
    update, bounds = window
    dtype = np.dtype(equation.outvars[0].aval.dtype)
    name = ARITHMETIC[equation.primitive.name]
    if isinstance(x, Known):
        made = written(x, combined(name, _known_part(x, bounds), update, source), bounds)
    else:
        made = None if x.repeated else _with_window(x, bounds, name, update, source)
    if made is None:
        raise NotUnderstoodError("it changes a part of repeated draws", None)
    return replace(made, dtype=dtype)


def split(equation: Any, x: Operand) -> list[Random]:
    """The parts of an array along an axis."""
    assert isinstance(x, Random)
    axis, begin = int(equation.params["axis"]), 0
    parts = []
    for size in equation.params["sizes"]:
        end = begin + int(size)
        bounds = list(whole(x.shape))
        bounds[axis] = begin, end
        parts.append(part_of(x, tuple(bounds)))
        begin = end
    return parts


def _with_window(
    x: Random, bounds: Bounds, name: str, update: Operand, source: Source | None
) -> Random:
    """Draws of which one rectangle is changed; the others are kept in rectangles around it."""
    changed = combined(name, part_of(x, bounds), update, source)
    patches = [Patch(shifted(one.bounds, bounds), one.cell) for one in changed.patches]
    for other in _around(x.shape, bounds):
        patches += [Patch(shifted(one.bounds, other), one.cell) for one in cut(x.patches, other)]
    return replace(x, patches=tuple(patches))


def _around(shape: Sequence[int], bounds: Bounds) -> Iterator[Bounds]:
    """Rectangles that together are all of a shape but one rectangle."""
    rest = list(whole(shape))
    for axis, (low, high) in enumerate(bounds):
        for side in ((0, low), (high, shape[axis])):
            if side[0] < side[1]:
                yield (*rest[:axis], side, *rest[axis + 1 :])
        rest[axis] = low, high


def _known_part(x: Known, bounds: Bounds) -> Known:
    return Known(np.asarray(x.array)[tuple(slice(*one) for one in bounds)], x.from_key)
