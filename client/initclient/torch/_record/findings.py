"""Findings: what a recording says of each parameter and buffer of a model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from initclient._laws import (
    Block,
    Composition,
    Constant,
    Flat,
    Holders,
    Normed,
    NotUnderstoodError,
    Repeated,
    Source,
    blocks,
    of_labels,
    of_patches,
    uses_of,
)
from initclient.torch._model import Member
from initclient.torch._record.arithmetic import SMALL, refuse_rounded_draws
from initclient.torch._record.computed import literal
from initclient.torch._record.elements import Elements, computed_elements, elements
from initclient.torch._record.norms import norm_of
from initclient.torch._record.patches import patches
from initclient.torch._record.repeats import Turns
from initclient.torch._trace import Evaluation, Expression, NoValueError, Trace, text

# Elements of a computed tensor that are worth their memory.
_LARGE = 1 << 26

# Parts of constants that read better than numbers.
_FEW = 8


@dataclass(frozen=True)
class Finding:
    """What a tensor of a model is.

    Attributes:
        name: its first name in the model.
        shape: its shape.
        dtype: its element type.
        composition: its laws; None if no plan can have it.
        reason: why no plan can have it, as half a sentence; "" if one can.
        made: its content as the recording saw it, for people.
        source: the last line that took part in what is not understood.
        is_computed: whether no draw takes part in its values, which differ.
        shares: the name of an earlier tensor that holds the very same draws; "" for none.
        expression: how it was made.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    composition: Composition | None = None
    reason: str = ""
    made: str = ""
    source: Source | None = None
    is_computed: bool = False
    shares: str = ""
    expression: Expression | None = field(default=None, repr=False, compare=False)


def findings(trace: Trace, members: Iterable[Member], values: Evaluation) -> dict[str, Finding]:
    """What each tensor is, by the name of its first place in the model.

    Args:
        trace: the trace of the code that made the model.
        members: the model's parameters and buffers.
        values: values of expressions without draws.
    """
    found: dict[str, Finding] = {}
    seen: set[int] = set()
    holders = Holders()
    turns = Turns(trace)
    for member in members:
        if id(member.tensor) in seen:
            continue
        seen.add(id(member.tensor))
        found[member.name] = _finding(member, trace.read(member.tensor), values)
    # A norm comes before the tensor that it is the norm of, in torch's parametrizations.
    order = sorted(found, key=lambda name: isinstance(found[name].composition, Normed))
    for name in order:
        found[name] = _apart(found[name], found, holders, turns)
    return found


def _finding(member: Member, expression: Expression, values: Evaluation) -> Finding:
    name, shape, dtype = member.name, member.shape, expression.dtype
    try:
        composition = _followed(expression, values)
    except NotUnderstoodError as error:
        source = _last_source(error.expression) or _last_source(expression)
        is_computed = not expression.is_random and _has_values(expression, values)
        return Finding(
            name,
            shape,
            dtype,
            reason=str(error),
            made=text(expression),
            source=source,
            is_computed=is_computed,
            expression=expression,
        )
    made = text(expression)
    return Finding(name, shape, dtype, composition, made=made, expression=expression)


def _followed(expression: Expression, values: Evaluation) -> Composition:
    try:
        return _composition(expression, values)
    except RecursionError:
        reason = f"{expression.depth} operations made it, one after the other, too many to follow"
        raise NotUnderstoodError(reason, expression) from None


def _composition(expression: Expression, values: Evaluation) -> Composition:
    if math.prod(expression.shape) == 0:
        return Block(Constant(0), expression.shape)
    refuse_rounded_draws(expression)
    normed = norm_of(expression)
    if normed is not None:
        part = _composition(normed.content, values)
        return Normed(expression.shape, normed.axes, part)
    try:
        return of_patches(patches(expression, values), expression.shape, expression)
    except NotUnderstoodError as error:
        if error.is_final:
            raise
        first = error
    if not expression.is_random:
        return _computed(expression, values)
    if math.prod(expression.shape) > SMALL:
        raise first
    try:
        found = elements(expression, values)
    except NotUnderstoodError as error:
        # The first reason names the law, if it is one without a scheme.
        raise (first if "no scheme" in str(first) else error) from None
    part = _of_elements(found, expression)
    return part if found.folding is None else Repeated(expression.shape, found.folding, part)


def _computed(expression: Expression, values: Evaluation) -> Composition:
    """Values that no draw takes part in: a few constants if these say it shorter, or numbers."""
    constants: Flat | None = None
    with suppress(NotUnderstoodError):
        constants = _of_elements(computed_elements(expression, values), expression)
    try:
        cell, folding = literal(expression, values)
    except NotUnderstoodError:
        if constants is None:
            raise
        return constants
    is_split = folding.whole != expression.shape
    count = math.prod(expression.shape if is_split else folding.part)
    if constants is not None and len(blocks(constants)) <= min(_FEW, count // _FEW):
        return constants
    part = Block(cell.law, folding.part, (), (cell,))
    if folding.part == expression.shape:
        return part
    return Repeated(expression.shape, folding, part)


def _of_elements(found: Elements, expression: Expression) -> Flat:
    grid = np.ascontiguousarray(found.labels.numpy())
    cuts = [range(size + 1) for size in grid.shape]
    return of_labels(grid, cuts, found.cells, expression)


def _last_source(expression: Expression) -> Source | None:
    """The line that made an expression, or the last of its operands that a line made."""
    if expression.source is not None:
        return expression.source
    found = [one.source for one in expression.operands() if one.source is not None]
    return found[-1] if found else None


def _has_values(expression: Expression, values: Evaluation) -> bool:
    if math.prod(expression.shape) > _LARGE:
        return False
    try:
        values.value(expression)
    except NoValueError:
        return False
    return True


def _apart(one: Finding, found: dict[str, Finding], holders: Holders, turns: Turns) -> Finding:
    """The finding, with the earlier tensor that holds the same draws, or refused if it overlaps."""
    if one.composition is None:
        return one
    uses = uses_of(one.composition)
    for name, use, other in holders.overlaps(uses):
        first = found[name]
        if first.composition == one.composition:
            return replace(one, shares=first.shares or name)
        if isinstance(one.composition, Normed) and first.composition == one.composition.part:
            of = _closest_holder(one.name, first.shares or name, one.composition.part, found)
            return replace(one, composition=replace(one.composition, of=of))
        if use.is_repeated or other.is_repeated:
            return _refused(
                one,
                "the code put torch's generator back to an earlier state, so that it repeats "
                f"numbers of {name} in another shape, type or law",
            )
        return _refused(
            one, f"it holds draws of {name} too, after other arithmetic or in other places"
        )
    for use in uses:
        if name := turns.holder(use):
            return _refused(
                one,
                "the code put torch's generator back to an earlier state and drew in other shapes, "
                "types or laws from there, so that it may repeat numbers of "
                f"{'its own' if name == one.name else name}",
            )
        turns.take(use, one.name)
    holders.take(one.name, uses)
    return one


def _refused(one: Finding, reason: str) -> Finding:
    source = None if one.expression is None else _last_source(one.expression)
    whole = f"{reason}, and a plan would draw the two apart"
    return replace(one, composition=None, reason=whole, source=source)


def _closest_holder(
    name: str, first: str, composition: Composition, found: dict[str, Finding]
) -> str:
    """The tensor of these draws whose name begins most like another name.

    Copies of a layer share their draws, and each has the norm of its own tensor.
    """
    holders = [
        other
        for other, one in found.items()
        if first in (one.shares, other) and one.composition == composition
    ]

    def common(other: str) -> int:
        pairs = zip(other, name, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(holders, key=common)
