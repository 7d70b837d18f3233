"""Pieces: draws as rectangles of one law, cut and moved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initclient._laws import Arranged, Bounds, Cell, Constant, NotUnderstoodError, Patch, law_text
from initclient.jax._trace import SMALL, Known, Random, core_of, number

_MOST = 256

CellOf = Callable[[Cell, np.generic], Cell]


def whole(shape: Sequence[int]) -> Bounds:
    """The rectangle of all elements."""
    return tuple((0, size) for size in shape)


def sizes(bounds: Bounds) -> tuple[int, ...]:
    """The shape of a rectangle."""
    return tuple(high - low for low, high in bounds)


def shifted(bounds: Bounds, outer: Bounds) -> Bounds:
    """A rectangle within another one, with positions counted from where that one's are."""
    pairs = zip(bounds, outer, strict=True)
    return tuple((low + first, high + first) for (low, high), (first, _) in pairs)


def moved(bounds: Bounds, axis: int, by: int) -> Bounds:
    """The rectangle, moved along an axis."""
    low, high = bounds[axis]
    return (*bounds[:axis], (low + by, high + by), *bounds[axis + 1 :])


def cut(patches: Sequence[Patch], bounds: Bounds) -> Iterator[Patch]:
    """What patches show of a rectangle, with positions counted from its first element.

    Raises:
        NotUnderstoodError: if it shows a part of a law of matrices.
    """
    for patch in patches:
        seen = tuple(
            (max(low, first), min(high, last))
            for (low, high), (first, last) in zip(patch.bounds, bounds, strict=True)
        )
        if any(low >= high for low, high in seen):
            continue
        cell = patch.cell
        if seen != patch.bounds:
            if not cell.law.is_independent:
                raise NotUnderstoodError(f"it is a part of {law_text(cell.law)}", None)
            cell = cell.placed("part", _relative(seen, patch.bounds))
        yield Patch(_relative(seen, bounds), cell)


def patches_of(value: Random | Known) -> Sequence[Patch]:
    """The patches of a value; those of a known array are constants.

    Raises:
        NotUnderstoodError: if the array has too many different pieces, or is a key.
    """
    if isinstance(value, Random):
        return value.patches
    if value.from_key:
        raise NotUnderstoodError("it takes a random key as numbers", None)
    array = np.asarray(value.array)
    if core_of(array).size > SMALL:
        raise NotUnderstoodError("it has computed values, too many to look at", None)
    return [
        Patch(bounds, Cell(Constant(constant_of(element)))) for bounds, element in regions(array)
    ]


def constant_of(element: Any) -> float | int | bool:
    """An element as the number of a plan."""
    if np.dtype(element.dtype).kind in "iub":
        return int(element)
    return number(element)


def piecewise(x: Random, other: Known, change: CellOf) -> Random:
    """Draws, changed by the number that a known array has at each place.

    Raises:
        NotUnderstoodError: if the array has too many different pieces.
    """
    array = np.asarray(other.array)
    if x.repeated or core_of(array).size > SMALL:
        raise NotUnderstoodError("its other operand has too many values", None)
    patches = []
    for bounds, element in regions(array):
        for patch in cut(x.patches, bounds):
            patches.append(Patch(shifted(patch.bounds, bounds), change(patch.cell, element)))
    return replace(x, patches=tuple(patches))


def regions(array: NDArray[Any]) -> list[tuple[Bounds, Any]]:
    """Rectangles of equal elements that an array consists of, whole along repeated axes.

    Raises:
        NotUnderstoodError: if there are too many.
    """
    core = core_of(array)
    found = []
    for bounds, element in rectangles(core):
        sides = zip(core.shape, array.shape, bounds, strict=True)
        found.append((tuple((0, size) if n == 1 else one for n, size, one in sides), element))
    return found


def rectangles(array: NDArray[Any]) -> list[tuple[Bounds, Any]]:
    """Rectangles of equal elements that an array consists of.

    Raises:
        NotUnderstoodError: if there are too many.
    """
    bits = np.ascontiguousarray(array)
    kind = f"u{bits.dtype.itemsize}"
    found = list(itertools.islice(_split(bits.view(kind), whole(bits.shape)), _MOST + 1))
    if len(found) > _MOST:
        raise NotUnderstoodError(f"it has more than {_MOST} parts", None)
    return [(bounds, bits[tuple(low for low, _ in bounds)]) for bounds in found]


def reshaped(x: Random, shape: tuple[int, ...]) -> Random:
    """All elements in another shape, row by row.

    Raises:
        NotUnderstoodError: if parts of different laws would be no rectangles any more.
    """
    if x.shape == shape:
        return x
    if tuple(n for n in x.shape if n != 1) == tuple(n for n in shape if n != 1):
        return _with_other_units(x, shape)
    if x.repeated:
        raise NotUnderstoodError("it moves repeated draws", None)
    if len(x.patches) == 1:
        cell = _in_shape(x.patches[0].cell, shape)
        return replace(x, shape=shape, patches=(Patch(whole(shape), cell),))
    # Leading axes that stay let parts along them stay rectangles.
    keep = 0
    while keep < min(len(shape), len(x.shape)) and x.shape[keep] == shape[keep]:
        keep += 1
    patches = []
    for patch in x.patches:
        if patch.bounds[keep:] != whole(x.shape[keep:]):
            return _split_leading(x, shape)
        bounds = (*patch.bounds[:keep], *whole(shape[keep:]))
        patches.append(Patch(bounds, _in_shape(patch.cell, sizes(bounds))))
    return replace(x, shape=shape, patches=tuple(patches))


def transposed(x: Random, axes: tuple[int, ...]) -> Random:
    """The elements with permuted axes."""
    patches = []
    for patch in x.patches:
        cell = patch.cell
        if cell.law.is_independent:
            cell = cell.placed("permute", axes)
        else:
            cell = rearranged(cell, "permute", axes)
        patches.append(Patch(tuple(patch.bounds[axis] for axis in axes), cell))
    shape = tuple(x.shape[axis] for axis in axes)
    repeated = frozenset(place for place, axis in enumerate(axes) if axis in x.repeated)
    return replace(x, shape=shape, patches=tuple(patches), repeated=repeated)


def broadcast(x: Random, shape: tuple[int, ...], dimensions: Sequence[int]) -> Random:
    """The elements in a larger shape, repeated along its other axes."""
    sizes_before = dict(zip((int(axis) for axis in dimensions), x.shape, strict=True))
    repeated = {axis for axis, size in enumerate(shape) if sizes_before.get(axis, 1) != size}
    repeated |= {int(axis) for i, axis in enumerate(dimensions) if i in x.repeated}
    middle = tuple(sizes_before.get(axis, 1) for axis in range(len(shape)))
    return replace(_with_other_units(x, middle), shape=shape, repeated=frozenset(repeated))


def joined(
    parts: Sequence[Random | Known], axis: int, shape: tuple[int, ...], dtype: Any
) -> Random:
    """Arrays, one after the other along an axis."""
    patches = []
    begin = 0
    common: frozenset[int] | None = None
    for part in parts:
        own = part.repeated if isinstance(part, Random) else frozenset[int]()
        common = own if common is None else common
        if own != common or axis in own:
            raise NotUnderstoodError("it moves repeated draws", None)
        for patch in patches_of(part):
            patches.append(Patch(moved(patch.bounds, axis, begin), patch.cell))
        begin += part.shape[axis]
    return Random(shape, dtype, tuple(patches), common or frozenset())


def rearranged(cell: Cell, step: str, to: tuple[int, ...]) -> Cell:
    """A cell of a law of matrices, with its elements in another order."""
    law = cell.law
    if not isinstance(law, Arranged):
        raise NotUnderstoodError(f"it moves elements of {law_text(law)}", None)
    if step == "permute" and not law.steps and len(to) == 2:
        # A transposed matrix of such a law has it too.
        law = replace(law, shape=law.shape[::-1]) if to == (1, 0) else law
    elif step == "reshape" and law.steps and law.steps[-1][0] == "reshape":
        law = replace(law, steps=(*law.steps[:-1], (step, to)))
    else:
        law = replace(law, steps=(*law.steps, (step, to)))
    if law.steps == (("reshape", law.shape),):
        law = replace(law, steps=())
    return replace(cell.placed(step, to), law=law)


def _in_shape(cell: Cell, shape: tuple[int, ...]) -> Cell:
    """A cell, with its elements row by row in another shape."""
    if cell.law.is_independent:
        return cell.placed("shape", shape)
    return rearranged(cell, "reshape", shape)


def _with_other_units(x: Random, shape: tuple[int, ...]) -> Random:
    """The elements with other axes of size 1 between the same axes."""
    if x.shape == shape:
        return x
    places = [axis for axis, size in enumerate(x.shape) if size != 1]
    into = [axis for axis, size in enumerate(shape) if size != 1]
    patches = []
    for patch in x.patches:
        bounds = [(0, 1)] * len(shape)
        for place, axis in zip(places, into, strict=True):
            bounds[axis] = patch.bounds[place]
        cell = patch.cell
        if not cell.law.is_independent:
            cell = rearranged(cell, "reshape", sizes(tuple(bounds)))
        patches.append(Patch(tuple(bounds), cell))
    table = dict(zip(places, into, strict=True))
    repeated = frozenset(table[axis] for axis in x.repeated if axis in table)
    return replace(x, shape=shape, patches=tuple(patches), repeated=repeated)


def _split_leading(x: Random, shape: tuple[int, ...]) -> Random:
    """A reshape that splits or joins the first axes, along which the parts lie."""
    rest = 0
    while rest < min(len(shape), len(x.shape)) and x.shape[-1 - rest] == shape[-1 - rest]:
        rest += 1
    before, after = x.shape[: len(x.shape) - rest], shape[: len(shape) - rest]
    if math.prod(before) > _MOST:
        raise NotUnderstoodError("it moves parts of different laws", None)
    patches = []
    for place in np.ndindex(*before):
        to = np.unravel_index(np.ravel_multi_index(place, before), after) if after else ()
        bounds = (*((i, i + 1) for i in place), *whole(x.shape[len(before) :]))
        for patch in cut(x.patches, bounds):
            inner = patch.bounds[len(before) :]
            target = (*((int(i), int(i) + 1) for i in to), *inner)
            cell = patch.cell
            if not cell.law.is_independent:
                cell = rearranged(cell, "reshape", sizes(target))
            patches.append(Patch(target, cell))
    return replace(x, shape=shape, patches=tuple(patches))


def _split(bits: NDArray[Any], bounds: Bounds) -> Iterator[Bounds]:
    if bits.size == 0:
        return
    if (bits == bits.flat[0]).all():
        yield bounds
        return
    edges = []
    for axis in range(bits.ndim):
        rows = np.moveaxis(bits, axis, 0).reshape(bits.shape[axis], -1)
        places = np.nonzero((rows[1:] != rows[:-1]).any(axis=1))[0] + 1
        if len(places):
            edges.append((len(places), axis, places.tolist()))
    _, axis, cuts = min(edges)
    for low, high in itertools.pairwise([0, *cuts, bits.shape[axis]]):
        inner = bits.take(range(low, high), axis=axis)
        first = bounds[axis][0]
        yield from _split(inner, (*bounds[:axis], (first + low, first + high), *bounds[axis + 1 :]))


def _relative(bounds: Bounds, outer: Bounds) -> Bounds:
    pairs = zip(bounds, outer, strict=True)
    return tuple((low - first, high - first) for (low, high), (first, _) in pairs)
