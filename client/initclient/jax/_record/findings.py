"""Findings: what a recording says of each leaf of a tree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from initclient._laws import (
    MAX_LITERAL,
    Block,
    Composition,
    Constant,
    Eye,
    Folding,
    Holders,
    NotUnderstoodError,
    Repeated,
    Source,
    Values,
    blocks,
    folded,
    lack,
    of_patches,
    uses_of,
)
from initclient.jax._record.pieces import constant_of, patches_of
from initclient.jax._trace import Known, Random, Unknown, Value, core_of, single, source_of

# Parts of constants that read better than numbers.
_FEW = 8


@dataclass(frozen=True)
class Finding:
    """What a leaf is.

    Attributes:
        name: its name in the plan.
        shape: its shape.
        dtype: its element type.
        composition: its laws; None if no plan can have it.
        reason: why no plan can have it, as half a sentence; "" if one can.
        made: the operation of JAX that is not understood.
        source: the line that asked for it.
        shares: the name of an earlier leaf that holds the very same draws; "" for none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    composition: Composition | None = None
    reason: str = ""
    made: str = ""
    source: Source | None = None
    shares: str = ""


def findings(names: Sequence[str], values: Sequence[Value]) -> dict[str, Finding]:
    """What each leaf is, by its name.

    Args:
        names: the leaves' names.
        values: their values in the traced program.
    """
    found: dict[str, Finding] = {}
    holders = Holders()
    for name, value in zip(names, values, strict=True):
        found[name] = _apart(_finding(name, value), found, holders)
    return found


def _finding(name: str, value: Value) -> Finding:
    shape, dtype = value.shape, value.dtype
    if isinstance(value, Unknown):
        return Finding(name, shape, dtype, None, value.reason, value.made, value.source)
    try:
        return Finding(name, shape, dtype, _composition(value))
    except NotUnderstoodError as error:
        return Finding(name, shape, dtype, None, str(error), "", _source(value))


def _source(value: Known | Random) -> Source | None:
    if isinstance(value, Known):
        return None if value.info is None else source_of(value.info)
    cells = [patch.cell for patch in value.patches]
    return next((cell.sources[-1] for cell in cells if cell.sources), None)


def _composition(value: Known | Random) -> Composition:
    if math.prod(value.shape) == 0:
        return Block(Constant(0), value.shape)
    if isinstance(value, Known):
        return _computed(value)
    part = of_patches(value.patches, value.part, None)
    if not value.repeated:
        return part
    return Repeated(value.shape, Folding(value.shape, value.part), part)


def _computed(value: Known) -> Composition:
    """Values that no draw takes part in: a constant, a few of them, an identity, or numbers."""
    if value.from_key:
        raise NotUnderstoodError("its values are computed from a random key, not drawn", None)
    if np.dtype(value.dtype).kind == "c":
        raise NotUnderstoodError("its values are complex numbers", None)
    element = single(value)
    if element is not None:
        law = Constant(constant_of(element))
        if reason := lack(law):
            raise NotUnderstoodError(reason, None)
        return Block(law, value.shape)
    array = np.asarray(value.array)
    core = core_of(array)
    if len(value.shape) == 2 and core.shape == value.shape and core[0, 0] != 0:
        rest = core[np.nonzero(core)]
        same = (rest == core[0, 0]).all() and (np.diagonal(core) == core[0, 0]).all()
        if same and rest.size == min(core.shape):
            return Block(Eye(float(constant_of(core[0, 0]))), value.shape)
    try:
        few = patches_of(value)
    except NotUnderstoodError:
        few = []
    if 0 < len(few) <= min(_FEW, core.size // _FEW):
        return of_patches(few, value.shape, None)
    return _literal(value.shape, core)


def _literal(shape: tuple[int, ...], core: Any) -> Composition:
    kind = np.int64 if core.dtype.kind in "iub" else np.float64
    numbers = np.ascontiguousarray(core.astype(kind))
    folding, part = folded(numbers.view(np.int64), within_axes=False)
    if part.size > MAX_LITERAL:
        folding, part = folded(numbers.view(np.int64), within_axes=True)
    if part.size > MAX_LITERAL:
        raise NotUnderstoodError(
            f"its values are computed, {part.size:,} numbers; a plan holds at most "
            f"{MAX_LITERAL:,} of a leaf",
            None,
        )
    kept = part.view(kind)
    if not np.isfinite(kept).all():
        raise NotUnderstoodError("its values are computed, and not all finite", None)
    block = Block(Values(tuple(kept.ravel().tolist())), folding.part)
    if folding.part == shape:
        return block
    if folding.whole == core.shape:
        # Axes that the whole array repeats are no longer in its core.
        return Repeated(shape, Folding(shape, folding.part), block)
    if core.shape != shape:
        raise NotUnderstoodError("its values are computed, and repeat in several ways", None)
    return Repeated(shape, folding, block)


def _apart(one: Finding, found: dict[str, Finding], holders: Holders) -> Finding:
    """The finding, with the earlier leaf that holds the same draws, or refused if it overlaps."""
    if one.composition is None:
        return one
    uses = uses_of(one.composition)
    for name, _, _ in holders.overlaps(uses):
        first = found[name]
        if first.composition == one.composition:
            return replace(one, shares=first.shares or name)
        reason = (
            f"its random key also draws {name}, in another shape or with other arithmetic, "
            "and a plan would draw the two apart; split the key"
        )
        cell = next(cell for block in blocks(one.composition) for cell in block.cells)
        source = cell.sources[0] if cell.sources else None
        return replace(one, composition=None, reason=reason, source=source)
    holders.take(one.name, uses)
    return one
