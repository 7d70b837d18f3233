"""Matrices: the QR decomposition of normal draws, which is how JAX draws orthogonal matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initclient._laws import (
    Arranged,
    Law,
    Normal,
    NotUnderstoodError,
    Orthogonal,
    Patch,
    Use,
)
from initclient.jax._record.pieces import whole
from initclient.jax._trace import Random

# Matrices of one array, each of which is a part of its plan.
_MOST = 256


@dataclass(frozen=True)
class Factor(Law):
    """A factor of the QR decomposition of normal draws, or what is computed of R.

    Attributes:
        kind: "Q", "R", "diagonal of R" or "signs of R".
        draws: the draws that were decomposed.
        shape: their shape.
    """

    kind: str
    draws: tuple[Use, ...]
    shape: tuple[int, ...]


def decomposed(x: Random, params: Any) -> list[Random]:
    """Q and R of normal draws.

    Raises:
        NotUnderstoodError: for other decompositions.
    """
    rows, columns = x.shape[-2:]
    cell = x.patches[0].cell
    is_plain = len(x.patches) == 1 and not x.repeated and rows >= columns
    is_reduced = not params.get("full_matrices") or rows == columns
    law = cell.law
    if not is_plain or not is_reduced or not isinstance(law, Normal) or law.mean or not law.std:
        raise NotUnderstoodError("it decomposes something else than normal draws", None)
    if params.get("pivoting"):
        raise NotUnderstoodError("it decomposes with pivots", None)
    made = []
    for kind, shape in (("Q", x.shape), ("R", (*x.shape[:-2], columns, columns))):
        factor = replace(cell, law=Factor(kind, cell.uses, x.shape))
        made.append(Random(shape, x.dtype, (Patch(whole(shape), factor),)))
    return made


def is_factor(x: Random, kind: str) -> bool:
    """Whether an array is such a factor, whole and in its order."""
    law = x.patches[0].cell.law
    return (
        len(x.patches) == 1
        and isinstance(law, Factor)
        and law.kind == kind
        and x.patches[0].cell.uses == law.draws
    )


def diagonal(x: Random, places: NDArray[np.int64]) -> Random:
    """Elements of R, if they are its diagonals.

    Args:
        x: R.
        places: for each element of the result, which element of R it is.

    Raises:
        NotUnderstoodError: for other elements.
    """
    size = x.shape[-1]
    count = math.prod(x.shape[:-2])
    wanted = np.arange(count)[:, None] * size * size + np.arange(size) * (size + 1)
    if places.shape != (*x.shape[:-2], size) or not np.array_equal(
        places.flatten(), wanted.ravel()
    ):
        raise NotUnderstoodError("it takes elements of R that are not its diagonal", None)
    return _as(x, "diagonal of R", places.shape)


def signs(x: Random) -> Random:
    """The signs of the diagonal of R.

    Raises:
        NotUnderstoodError: for signs of anything else.
    """
    if not is_factor(x, "diagonal of R"):
        raise NotUnderstoodError("no plan computes this function of a draw", None)
    return _as(x, "signs of R", x.shape)


def oriented(operands: Sequence[Random]) -> Random | None:
    """Q times the signs of R's diagonal, column by column; None for other factors.

    With these signs the decomposition is unique, so Q has the distribution of Haar (Mezzadri,
    How to generate random matrices from the classical compact groups, 2007).
    """
    for q, sign in (tuple(operands), tuple(operands[::-1])):
        if not (is_factor(q, "Q") and is_factor(sign, "signs of R")):
            continue
        law, other = q.patches[0].cell.law, sign.patches[0].cell.law
        assert isinstance(law, Factor)
        assert isinstance(other, Factor)
        rows = len(q.shape) - 2
        along_rows = sign.shape[rows] == 1 or sign.repeated == {rows}
        same = sign.part == (*q.shape[:-2], 1, q.shape[-1])
        if law.draws == other.draws and law.shape == other.shape and along_rows and same:
            return _orthogonal(q)
    return None


def _orthogonal(q: Random) -> Random:
    batch, matrix = q.shape[:-2], q.shape[-2:]
    if math.prod(batch) > _MOST:
        raise NotUnderstoodError(f"it has {math.prod(batch):,} orthogonal matrices", None)
    cell = q.patches[0].cell
    if not batch:
        return replace(
            q, patches=(Patch(whole(matrix), replace(cell, law=Arranged(Orthogonal(), matrix))),)
        )
    law = Arranged(Orthogonal(), matrix, (("reshape", (*(1 for _ in batch), *matrix)),))
    patches = []
    for index in np.ndindex(*batch):
        bounds = (*((i, i + 1) for i in index), *whole(matrix))
        patches.append(Patch(bounds, replace(cell, law=law).placed("part", bounds)))
    return replace(q, patches=tuple(patches))


def _as(x: Random, kind: str, shape: tuple[int, ...]) -> Random:
    cell = x.patches[0].cell
    law = cell.law
    assert isinstance(law, Factor)
    made = replace(cell, law=replace(law, kind=kind), uses=law.draws)
    return Random(shape, x.dtype, (Patch(whole(shape), made),))
