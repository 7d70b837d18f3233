"""Movement: operations that move elements, on draws beside known arrays."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from initclient._laws import Bounds, Cell, Constant, NotUnderstoodError, Patch, folded
from initclient.jax._record.matrices import diagonal, is_factor
from initclient.jax._record.pieces import (
    broadcast,
    cut,
    joined,
    patches_of,
    rearranged,
    rectangles,
    regions,
    reshaped,
    shifted,
    sizes,
    transposed,
    whole,
)
from initclient.jax._trace import SMALL, Known, Random, core_of, single

Evaluate: TypeAlias = Callable[[Any, Sequence[Any]], list[Any]]
Operand: TypeAlias = Random | Known

# Elements of a matrix of which only the diagonal is wanted.
_MATRIX = 1 << 26

SAME = {
    "copy",
    "copy_p",
    "device_put",
    "mesh_cast",
    "optimization_barrier",
    "reshard",
    "sharding_constraint",
    "stop_gradient",
}
"""Operations whose results are their operands."""

# Which operands have the elements that an operation moves.
_MOVED: dict[str, tuple[int, ...]] = {
    "broadcast_in_dim": (0,),
    "concatenate": (),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "gather": (0,),
    "pad": (0, 1),
    "reshape": (0,),
    "rev": (0,),
    "scatter": (0, 2),
    "select_n": (),
    "slice": (0,),
    "squeeze": (0,),
    "tile": (0,),
    "transpose": (0,),
}
MOVES = {*_MOVED, "expand_dims"}
"""Operations that this file knows."""


def move(equation: Any, operands: Sequence[Operand], evaluate: Evaluate) -> Random:
    """The result of an operation that moves draws.

    Raises:
        NotUnderstoodError: if it is no array of draws, each of them once, that a plan has.
    """
    out = equation.outvars[0].aval
    whole_move = _WHOLE.get(equation.primitive.name)
    error: NotUnderstoodError | None = None
    if whole_move is not None:
        try:
            made = whole_move(equation, operands)
        except NotUnderstoodError as first:
            error, made = first, None
        if made is not None:
            return replace(made, dtype=np.dtype(out.dtype))
    try:
        return _by_elements(equation, operands, evaluate)
    except NotUnderstoodError as second:
        raise (error or second) from None


def _reshape(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x = operands[0]
    assert isinstance(x, Random)
    if equation.params.get("dimensions") is not None:
        return None
    return reshaped(x, tuple(equation.outvars[0].aval.shape))


def _transpose(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x = operands[0]
    assert isinstance(x, Random)
    return transposed(x, tuple(int(axis) for axis in equation.params["permutation"]))


def _broadcast(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x = operands[0]
    assert isinstance(x, Random)
    shape = tuple(equation.outvars[0].aval.shape)
    return broadcast(x, shape, equation.params["broadcast_dimensions"])


def _tile(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x = operands[0]
    assert isinstance(x, Random)
    shape = tuple(equation.outvars[0].aval.shape)
    # Axes of size 1 are repeated; other axes would have each draw in several rows.
    if any(size != 1 and size != tiled for size, tiled in zip(x.shape, shape, strict=True)):
        return None
    return broadcast(x, shape, range(len(shape)))


def _concatenate(equation: Any, operands: Sequence[Operand]) -> Random | None:
    out = equation.outvars[0].aval
    return joined(operands, int(equation.params["dimension"]), tuple(out.shape), out.dtype)


def _slice(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x, params = operands[0], equation.params
    assert isinstance(x, Random)
    if params.get("strides") is not None and any(step != 1 for step in params["strides"]):
        return None
    return part_of(x, tuple(zip(params["start_indices"], params["limit_indices"], strict=True)))


def _dynamic_slice(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x, shape = operands[0], tuple(equation.params["slice_sizes"])
    if not isinstance(x, Random):
        return None
    return part_of(x, _window(x.shape, shape, operands[1:]))


def _dynamic_update(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x, update = operands[:2]
    return written(x, update, _window(x.shape, update.shape, operands[2:]))


def _gather(equation: Any, operands: Sequence[Operand]) -> Random | None:
    x, index = operands
    numbers, params = equation.params["dimension_numbers"], equation.params
    start = _single_index(index, numbers.start_index_map, numbers)
    if start is None or not isinstance(x, Random) or is_factor(x, "R"):
        return None
    bounds = []
    for axis, size in enumerate(params["slice_sizes"]):
        low = start.get(axis, 0)
        if not 0 <= low <= x.shape[axis] - size:
            return None
        bounds.append((low, low + int(size)))
    found = part_of(x, tuple(bounds))
    return reshaped(found, tuple(equation.outvars[0].aval.shape))


def _scatter(equation: Any, operands: Sequence[Operand]) -> Random | None:
    window = scatter_window(equation, operands)
    return None if window is None else written(operands[0], *window)


def scatter_window(equation: Any, operands: Sequence[Operand]) -> tuple[Operand, Bounds] | None:
    """The one window that a scatter writes to, before its elements; None if it has several."""
    x, index, update = operands
    numbers = equation.params["dimension_numbers"]
    start = _single_index(index, numbers.scatter_dims_to_operand_dims, numbers)
    if start is None or tuple(numbers.update_window_dims) != tuple(range(len(update.shape))):
        return None
    left = list(update.shape)
    shape = tuple(
        1 if axis in numbers.inserted_window_dims else left.pop(0) for axis in range(len(x.shape))
    )
    bounds = []
    for axis, size in enumerate(shape):
        low = start.get(axis, 0)
        if not 0 <= low <= x.shape[axis] - size:
            return None
        bounds.append((low, low + size))
    part = reshaped(update, shape) if isinstance(update, Random) else _known_as(update, shape)
    return part, tuple(bounds)


def _select(equation: Any, operands: Sequence[Operand]) -> Random | None:
    which, *cases = operands
    if not isinstance(which, Known) or which.from_key:
        raise NotUnderstoodError("draws decide which elements it takes", None)
    chosen = single(which)
    if chosen is not None:
        case = cases[int(chosen)]
        if isinstance(case, Random):
            return case
        return Random(case.shape, case.dtype, tuple(patches_of(case)))
    if any(isinstance(case, Random) and case.repeated for case in cases):
        return None
    array = np.asarray(which.array)
    if core_of(array).size > SMALL:
        return None
    patches: list[Patch] = []
    for bounds, element in regions(array):
        for patch in cut(patches_of(cases[int(element)]), bounds):
            patches.append(Patch(shifted(patch.bounds, bounds), patch.cell))
    return Random(which.shape, cases[0].dtype, tuple(patches))


_WHOLE: dict[str, Callable[[Any, Sequence[Operand]], Random | None]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "expand_dims": _reshape,
    "gather": _gather,
    "reshape": _reshape,
    "scatter": _scatter,
    "select_n": _select,
    "slice": _slice,
    "squeeze": _reshape,
    "tile": _tile,
    "transpose": _transpose,
}


def part_of(x: Random, bounds: Bounds) -> Random:
    """A rectangle of draws."""
    shape = sizes(bounds)
    inside = tuple((0, 1) if axis in x.repeated else one for axis, one in enumerate(bounds))
    return replace(x, shape=shape, patches=tuple(cut(x.patches, inside)))


def written(x: Operand, update: Operand, bounds: Bounds) -> Random | None:
    """An array after a rectangle of it is replaced; None if draws of either are repeated."""
    if any(isinstance(one, Random) and one.repeated for one in (x, update)):
        return None
    if any(low >= high for low, high in bounds):
        return x if isinstance(x, Random) else None
    over = [Patch(shifted(p.bounds, bounds), p.cell) for p in patches_of(update)]
    below = []
    for patch in patches_of(x):
        pairs = zip(patch.bounds, bounds, strict=True)
        if not all(low <= first and last <= high for (first, last), (low, high) in pairs):
            below.append(patch)
    return Random(x.shape, x.dtype, (*below, *over))


def _window(shape: Sequence[int], inner: Sequence[int], starts: Sequence[Operand]) -> Bounds:
    bounds = []
    for size, length, start in zip(shape, inner, starts, strict=True):
        found = single(start)
        if found is None:
            raise NotUnderstoodError("draws or keys decide which elements it takes", None)
        # JAX moves a window that reaches over an edge.
        low = min(max(int(found), 0), size - length)
        bounds.append((low, low + length))
    return tuple(bounds)


def _single_index(index: Operand, axes: Sequence[int], numbers: Any) -> dict[int, int] | None:
    """The first position of the one window that indices name, by axis; None for several."""
    if not isinstance(index, Known) or index.from_key:
        raise NotUnderstoodError("draws or keys decide which elements it takes", None)
    if math.prod(index.shape[:-1]) != 1 or len(index.shape) != 1:
        return None
    if getattr(numbers, "operand_batching_dims", ()):
        return None
    found = np.asarray(index.array).tolist()
    return dict(zip((int(axis) for axis in axes), found, strict=True))


def _known_as(value: Known, shape: tuple[int, ...]) -> Known:
    array = np.asarray(value.array)
    element = single(value)
    if element is not None:
        return Known(np.broadcast_to(np.asarray(element), shape), value.from_key)
    return Known(array.reshape(shape), value.from_key)


def _by_elements(equation: Any, operands: Sequence[Operand], evaluate: Evaluate) -> Random:
    """The operation on the numbers of the elements, so that every kind of indexing is right."""
    out, name = equation.outvars[0].aval, equation.primitive.name
    places: Sequence[int] = _MOVED.get(name, (0,))
    if not places:
        places = range(1 if name == "select_n" else 0, len(operands))
    if math.prod(out.shape) > SMALL:
        raise NotUnderstoodError("it moves elements of a large array", None)
    cells: list[tuple[Cell, tuple[int, ...]]] = []
    starts: list[int] = []
    total = 0
    arrays: list[Any] = []
    for place, operand in enumerate(operands):
        if place not in places:
            if not isinstance(operand, Known) or operand.from_key:
                raise NotUnderstoodError("draws or keys decide which elements it takes", None)
            arrays.append(operand.array)
            continue
        limit = _MATRIX if isinstance(operand, Random) and is_factor(operand, "R") else SMALL
        if math.prod(operand.shape) > limit:
            raise NotUnderstoodError("it moves elements of a large array", None)
        part = operand.part if isinstance(operand, Random) else operand.shape
        ids = np.full(part, -1, dtype=np.int32)
        for patch in patches_of(operand):
            shape = sizes(patch.bounds)
            count = math.prod(shape)
            index = tuple(slice(low, high) for low, high in patch.bounds)
            ids[index] = np.arange(total, total + count, dtype=np.int32).reshape(shape)
            cells.append((patch.cell, shape))
            starts.append(total)
            total += count
        arrays.append(np.broadcast_to(ids, operand.shape))
    if name == "gather":
        # An element that a gather fills in is none of the array's, so no number stands for it.
        equation = equation.replace(params={**equation.params, "fill_value": -1})
    moved = np.asarray(evaluate(equation, arrays)[0]).astype(np.int64)
    if (moved < 0).any():
        raise NotUnderstoodError("it takes elements from outside the array", None)
    only = operands[places[0]]
    if len(cells) == 1 and isinstance(only, Random) and is_factor(only, "R"):
        return diagonal(only, moved)
    return _of_numbers(moved, np.array(starts), cells, out)


def _of_numbers(
    moved: NDArray[np.int64],
    starts: NDArray[np.int64],
    cells: Sequence[tuple[Cell, tuple[int, ...]]],
    out: Any,
) -> Random:
    owners = np.searchsorted(starts, moved, side="right") - 1
    constants = np.array([isinstance(cell.law, Constant) for cell, _ in cells])
    # All elements of a constant are the same one.
    moved = np.where(constants[owners], starts[owners], moved)
    drawn = moved[~constants[owners]]
    repeated: frozenset[int] = frozenset()
    if np.unique(drawn).size != drawn.size:
        folding, part = folded(moved, within_axes=False)
        kept = part[~constants[np.searchsorted(starts, part, side="right") - 1]]
        if folding.whole != tuple(out.shape) or np.unique(kept).size != kept.size:
            raise NotUnderstoodError("it has one draw in several places", None)
        repeated = frozenset(
            axis
            for axis, (size, one) in enumerate(zip(folding.whole, folding.part, strict=True))
            if size != one
        )
        moved, owners = part, np.searchsorted(starts, part, side="right") - 1
    patches = []
    for bounds, owner in rectangles(owners):
        cell, shape = cells[int(owner)]
        index = tuple(slice(low, high) for low, high in bounds)
        local = moved[index] - starts[int(owner)]
        patches.append(Patch(bounds, _seen(cell, shape, local)))
    return Random(tuple(out.shape), np.dtype(out.dtype), tuple(patches), repeated)


def _seen(cell: Cell, shape: tuple[int, ...], places: NDArray[np.int64]) -> Cell:
    """A cell of which these elements are seen."""
    if isinstance(cell.law, Constant):
        return cell
    count = math.prod(shape)
    in_order = places.size == count and np.array_equal(places.ravel(), np.arange(count))
    if not cell.law.is_independent:
        if not in_order:
            raise NotUnderstoodError("it takes single elements of a matrix", None)
        return cell if places.shape == shape else rearranged(cell, "reshape", places.shape)
    if in_order and places.shape == shape:
        return cell
    low, high = np.unravel_index(places.flat[0], shape), np.unravel_index(places.flat[-1], shape)
    bounds = tuple((int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    if all(a < b for a, b in bounds):
        box = np.arange(count).reshape(shape)[tuple(slice(a, b) for a, b in bounds)]
        if np.array_equal(box.ravel(), places.ravel()):
            return cell if bounds == whole(shape) else cell.placed("part", bounds)
    return cell.placed("elements", hashlib.sha256(places.tobytes()).hexdigest())
