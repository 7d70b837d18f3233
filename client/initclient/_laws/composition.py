"""Composition: rectangles of different laws as one tensor of a plan, with parts along axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import initcore as ic
import numpy as np
from initcore import PlanError, Tensor
from numpy.typing import NDArray

from initclient._laws.cells import Cell, NotUnderstoodError, Patch
from initclient._laws.distributions import Applied, Arranged, Constant, Law, law_text
from initclient._laws.folding import Folding
from initclient._laws.schemes import lack, tensor_of

# Tensors of a plan may be nested eight deep; people should still be able to read them.
_DEEPEST = 6
_MOST_PARTS = 256
_MOST_CELLS = 1 << 22
_MOST_ZERO_ROWS = 1024
_ZEROS = {repr(Constant(0)), repr(Constant(0.0))}


@dataclass(frozen=True)
class Block:
    """A rectangle of one law.

    Attributes:
        law: the law.
        shape: its shape.
        zero_rows: positions of the first dimension that are zero instead.
        cells: what it was found as.
    """

    law: Law
    shape: tuple[int, ...]
    zero_rows: tuple[int, ...] = ()
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Joined:
    """Parts, one after the other along an axis."""

    axis: int
    parts: tuple[Block | Joined, ...]


Flat: TypeAlias = Block | Joined
"""Rectangles of laws."""


@dataclass(frozen=True)
class Repeated:
    """A part that is repeated along dimensions.

    Attributes:
        shape: the shape of the whole.
        folding: which dimensions are repeated.
        part: what is repeated.
    """

    shape: tuple[int, ...]
    folding: Folding
    part: Flat


@dataclass(frozen=True)
class Normed:
    """The Euclidean norm of a part.

    Attributes:
        shape: its shape, of as many elements as the norm has.
        axes: the dimensions of the part that it is not taken over.
        part: what it is the norm of.
        of: the name of the tensor that is this part; "" if the model holds it nowhere else.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    part: Composition
    of: str = ""


Composition: TypeAlias = Flat | Repeated | Normed


def blocks(composition: Composition) -> list[Block]:
    """Its blocks, in order."""
    if isinstance(composition, Block):
        return [composition]
    if isinstance(composition, Joined):
        return [block for part in composition.parts for block in blocks(part)]
    return blocks(composition.part)


def laws(composition: Composition) -> Any:
    """What it says, but for the draws and lines that it came from: equal if the plans are."""
    if isinstance(composition, Block):
        # As text, which tells 0.0 from -0.0.
        return repr(composition.law), composition.shape, composition.zero_rows
    if isinstance(composition, Joined):
        return composition.axis, tuple(map(laws, composition.parts))
    if isinstance(composition, Repeated):
        return composition.shape, composition.folding, laws(composition.part)
    return composition.shape, composition.axes, composition.of, laws(composition.part)


def tensor(composition: Composition, name: str, dtype: Any, stream: str) -> Tensor:
    """The tensor of a plan; each part has a stream of its own under the tensor's stream.

    Args:
        composition: the parts, of laws that have schemes.
        name: the tensor's name.
        dtype: its element type.
        stream: the name of its stream: its own name, or that of a tensor with the same draws.

    Raises:
        PlanError: naming the tensor, if a builder refuses what it is given.
    """
    try:
        return _tensor(composition, name, dtype, stream)
    except PlanError as error:
        # A builder knows no name.
        named = [replace(one, tensor=one.tensor or name) for one in error.violations]
        raise PlanError(named) from None


def norm_tensor(composition: Normed, of: str, part: Tensor) -> Tensor:
    """The tensor of a plan for the norm of a part, which has the name `of`."""
    made = ic.norm({of: part}, composition.axes)
    is_same = made.shape == composition.shape
    return made if is_same else ic.reshape(composition.shape, {"norm": made})


def of_patches(patches: Sequence[Patch], shape: tuple[int, ...], expression: Any) -> Flat:
    """The composition of patches, of which the later ones hide the earlier ones.

    Raises:
        NotUnderstoodError: if it has too many parts, or shows a part of a law of matrices.
    """
    if len(patches) == 1:
        return _block(patches[0].cell, shape, expression)
    _refuse_shared_draws(patches, expression)
    cuts = [
        sorted({0, size, *itertools.chain.from_iterable(p.bounds[axis] for p in patches)})
        for axis, size in enumerate(shape)
    ]
    if math.prod(len(cut) - 1 for cut in cuts) > _MOST_CELLS:
        raise NotUnderstoodError(f"it has {len(patches):,} parts", expression)
    grid = np.full([len(cut) - 1 for cut in cuts], -1, dtype=np.int64)
    for number, patch in enumerate(patches):
        grid[_within(cuts, patch.bounds)] = number
    if (grid < 0).any():
        raise NotUnderstoodError("a part of it is never written", expression)
    for number in np.unique(grid).tolist():
        patch = patches[number]
        is_whole = bool((grid[_within(cuts, patch.bounds)] == number).all())
        if not patch.cell.law.is_independent and not is_whole:
            reason = f"a part of {law_text(patch.cell.law)} is written again"
            raise NotUnderstoodError(reason, expression)
    return of_labels(grid, cuts, [patch.cell for patch in patches], expression)


def of_labels(
    grid: NDArray[np.int64],
    cuts: Sequence[Sequence[int]],
    cells: Sequence[Cell],
    expression: Any,
) -> Flat:
    """The composition of a grid of cells.

    Args:
        grid: the number of the cell in each place.
        cuts: for each axis, where the places begin, and where the last one ends.
        cells: the cells.
        expression: what it stands for, for errors.

    Raises:
        NotUnderstoodError: if it has too many parts, or parts of laws without a scheme.
    """
    merged, laws = _merged(grid, cells)
    padded = _padded(merged, cuts, laws, expression)
    if padded is not None:
        return padded
    made = _split(merged, cuts, laws, expression, 0)
    if len(blocks(made)) > _MOST_PARTS:
        raise NotUnderstoodError(f"it has {len(blocks(made)):,} parts", expression)
    return made


def _merged(
    grid: NDArray[np.int64], cells: Sequence[Cell]
) -> tuple[NDArray[np.int64], list[list[Cell]]]:
    """The grid with one number for all cells of a law, and the cells of each number."""
    numbers: dict[Any, int] = {}
    groups: list[list[Cell]] = []
    table = np.zeros(len(cells), dtype=np.int64)
    for index in np.unique(grid).tolist():
        cell = cells[index]
        # As text, which tells 0.0 from -0.0.
        key = repr(cell.law) if cell.law.is_independent else index
        number = numbers.setdefault(key, len(groups))
        if number == len(groups):
            groups.append([])
        groups[number].append(cell)
        table[index] = number
    return table[grid], groups


def _padded(
    grid: NDArray[np.int64],
    cuts: Sequence[Sequence[int]],
    groups: Sequence[Sequence[Cell]],
    expression: Any,
) -> Flat | None:
    """One law but for rows of zeros, as an embedding with a padding row has; None for others."""
    if grid.ndim < 2 or len(groups) != 2:
        return None
    zero = next((i for i, group in enumerate(groups) if repr(group[0].law) in _ZEROS), None)
    if zero is None or isinstance(groups[1 - zero][0].law, Constant):
        return None
    rows = (grid == zero).reshape(grid.shape[0], -1)
    if not (rows.all(axis=1) == rows.any(axis=1)).all():
        return None
    places = np.nonzero(rows.all(axis=1))[0].tolist()
    found = [row for place in places for row in range(cuts[0][place], cuts[0][place + 1])]
    if len(found) > _MOST_ZERO_ROWS:
        return None
    other = groups[1 - zero]
    whole = _block(other[0], _shape(grid, cuts), expression)
    return Block(whole.law, whole.shape, tuple(found), tuple(other))


def _split(
    grid: NDArray[np.int64],
    cuts: Sequence[Sequence[int]],
    groups: Sequence[Sequence[Cell]],
    expression: Any,
    depth: int,
) -> Flat:
    first = int(grid.flat[0])
    if (grid == first).all():
        group = groups[first]
        _block(group[0], (), expression)
        return Block(group[0].law, _shape(grid, cuts), (), tuple(group))
    if depth == _DEEPEST:
        raise NotUnderstoodError("its parts are nested too deep", expression)
    axis = _best_axis(grid)
    edges = _edges(grid, axis)
    parts = []
    for begin, end in itertools.pairwise([0, *edges, grid.shape[axis]]):
        inner = list(cuts)
        inner[axis] = cuts[axis][begin : end + 1]
        piece = grid.take(range(begin, end), axis=axis)
        parts.append(_split(piece, inner, groups, expression, depth + 1))
        if len(parts) > _MOST_PARTS:
            raise NotUnderstoodError(f"it has more than {_MOST_PARTS} parts", expression)
    return Joined(axis, tuple(parts))


def _best_axis(grid: NDArray[np.int64]) -> int:
    """The axis along which the fewest cuts are needed."""
    counts = [(len(_edges(grid, axis)) or grid.size, axis) for axis in range(grid.ndim)]
    return min(counts)[1]


def _edges(grid: NDArray[np.int64], axis: int) -> list[int]:
    """Where neighbours along an axis differ."""
    if grid.shape[axis] < 2:
        return []
    moved = np.moveaxis(grid, axis, 0).reshape(grid.shape[axis], -1)
    return [int(i) + 1 for i in np.nonzero((moved[1:] != moved[:-1]).any(axis=1))[0]]


def _block(cell: Cell, shape: tuple[int, ...], expression: Any) -> Block:
    reason = lack(cell.law)
    if reason:
        raise NotUnderstoodError(reason, expression)
    return Block(cell.law, shape, (), (cell,))


def _refuse_shared_draws(patches: Sequence[Patch], expression: Any) -> None:
    seen: dict[int, list[Any]] = {}
    for patch in patches:
        for use in patch.cell.uses:
            others = seen.setdefault(use.draw, [])
            if not all(use.is_apart_from(other) for other in others):
                raise NotUnderstoodError("it has one draw in several places", expression)
            others.append(use)


def _within(
    cuts: Sequence[Sequence[int]], bounds: tuple[tuple[int, int], ...]
) -> tuple[slice, ...]:
    pairs = zip(cuts, bounds, strict=True)
    return tuple(slice(cut.index(low), cut.index(high)) for cut, (low, high) in pairs)


def _shape(grid: NDArray[np.int64], cuts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(cut[size] - cut[0] for cut, size in zip(cuts, grid.shape, strict=True))


def _tensor(composition: Composition, name: str, dtype: Any, stream: str) -> Tensor:
    if isinstance(composition, Block):
        # The draw may be a part of another tensor, and parts are not named like the tensor.
        law = composition.law
        is_composed = isinstance(law, Applied) or (isinstance(law, Arranged) and bool(law.steps))
        return _part(composition, stream if is_composed or stream != name else None, dtype)
    if isinstance(composition, Joined):
        return _part(composition, stream, dtype)
    if isinstance(composition, Repeated):
        folding = composition.folding
        part = _part(composition.part, stream, dtype)
        made = ic.broadcast_to(folding.whole, {"part": part})
        same = folding.whole == composition.shape
        return made if same else ic.reshape(composition.shape, {"repeated": made})
    of = composition.of or f"{stream}/of"
    return norm_tensor(composition, of, _tensor(composition.part, of, dtype, of))


def _part(part: Flat, stream: str | None, dtype: Any) -> Tensor:
    if isinstance(part, Block):
        made = tensor_of(part.law, part.shape, dtype, stream)
        return replace(made, zero_rows=part.zero_rows) if part.zero_rows else made
    inner = enumerate(part.parts)
    parts = {str(number): _part(one, f"{stream}/{number}", dtype) for number, one in inner}
    return ic.concatenate(parts, axis=part.axis)
