"""Patches: an expression as rectangles, each of one law, the later ones over the earlier ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

from initclient._laws import (
    Bounds,
    Cell,
    Constant,
    Law,
    NotUnderstoodError,
    Orthogonal,
    Patch,
    Source,
    are_apart,
    law_text,
    through_function,
)
from initclient.torch._record.arithmetic import (
    SMALL,
    affine,
    constant,
    function_of_laws,
    inverse_softplus,
)
from initclient.torch._record.repeats import use_of
from initclient.torch._trace import (
    Assembled,
    Call,
    Drawn,
    Evaluation,
    Expression,
    Geometry,
    Unwritten,
    contiguous,
    is_covered,
    text,
)

_COPIES = {
    "clone",
    "_to_copy",
    "copy",
    "alias_copy",
    "detach_copy",
    "lift_fresh_copy",
    "contiguous",
}
_RESHAPES = {"_unsafe_view", "_reshape_copy", "view_copy", "unsqueeze_copy", "squeeze_copy"}
# Parts of a tensor that is seen in another shape.
_MOST_RECTANGLES = 1024


def patches(expression: Expression, values: Evaluation) -> list[Patch]:
    """The patches of an expression, which cover all of it.

    Raises:
        NotUnderstoodError: if it has no such form, or none that can be seen without looking at
            single elements.
    """
    whole = tuple((0, size) for size in expression.shape)
    if not expression.is_random:
        number = constant(expression, values)
        if number is None:
            raise NotUnderstoodError("its values differ, and are computed", expression)
        return [Patch(whole, Cell(Constant(number), sources=_sources(expression)))]
    if isinstance(expression, Drawn):
        if expression.own_generator:
            reason = (
                "a torch.Generator of the model's own draws it, so that no seed of a plan decides "
                "its values"
            )
            raise NotUnderstoodError(reason, expression, is_final=True)
        cell = Cell(expression.law, (use_of(expression),), (), _sources(expression))
        return [Patch(whole, cell)]
    if isinstance(expression, Assembled):
        return list(_assembled(expression, values))
    assert isinstance(expression, Call)
    return _called(expression, values)


def _called(call: Call, values: Evaluation) -> list[Patch]:
    name, args = call.name, call.args
    if name in _COPIES:
        copied = args[1] if name == "copy" else args[0]
        if isinstance(copied, Expression) and copied.shape == call.shape:
            _refuse_conversion(copied, call)
            return patches(copied, values)
    if name in _RESHAPES and isinstance(args[0], Expression):
        return _reshaped(args[0], call, values)
    if name in ("cat", "stack", "concat"):
        return list(_joined(call, values))
    twice = inverse_softplus(call)
    if twice is not None:
        return [
            Patch(
                p.bounds, p.cell.changed(_softplus_inverted(p.cell.law), "softplus^-1", call.source)
            )
            for p in patches(twice, values)
        ]
    step = affine(call, values)
    if step is not None:
        x, scale, shift = step
        change = f"* {scale:.17g} + {shift:.17g}"
        return [
            Patch(p.bounds, p.cell.changed(p.cell.law.affine(scale, shift), change, call.source))
            for p in patches(x, values)
        ]
    found = function_of_laws(call, values)
    if found is not None:
        x, function = found
        return [
            Patch(p.bounds, p.cell.changed(function(p.cell.law), text(call, 1), call.source))
            for p in patches(x, values)
        ]
    raise NotUnderstoodError(f"{text(call)} is no law of its own", call)


def _reshaped(x: Expression, call: Call, values: Evaluation) -> list[Patch]:
    """All of x in another shape: one law stays what it is, unless it is one of matrices."""
    inner = patches(x, values)
    if len(inner) != 1 or not _keeps(inner[0].cell.law, x.shape, call.shape):
        reason = f"{text(call)} moves parts of different laws"
        return list(_turned(inner, contiguous(x.shape), contiguous(call.shape), call, reason))
    whole = tuple((0, size) for size in call.shape)
    return [Patch(whole, inner[0].cell.placed("shape", call.shape))]


def _joined(call: Call, values: Evaluation) -> Iterator[Patch]:
    parts = list(call.args[0])
    rank = len(call.shape)
    axis = int(call.keywords.get("dim", call.args[1] if len(call.args) > 1 else 0)) % rank
    is_stack = call.name == "stack"
    begin = 0
    for part in parts:
        shape = (*part.shape[:axis], 1, *part.shape[axis:]) if is_stack else part.shape
        if len(shape) != rank:
            # torch.cat takes an empty tensor of one dimension beside any other.
            continue
        _refuse_conversion(part, call)
        for patch in _taken(part, call, values):
            bounds = patch.bounds
            if is_stack:
                bounds = (*bounds[:axis], (0, 1), *bounds[axis:])
            yield Patch(_moved(bounds, axis, begin), patch.cell)
        begin += shape[axis]


def _taken(part: Expression, call: Call, values: Evaluation) -> list[Patch]:
    """The patches of an operand, whose element type has rounded it if it has no draws."""
    if part.is_random or part.dtype == call.dtype:
        return patches(part, values)
    number = constant(part, values, call.dtype)
    if number is None:
        return patches(part, values)
    whole = tuple((0, size) for size in part.shape)
    return [Patch(whole, Cell(Constant(number), sources=_sources(part)))]


def _assembled(expression: Assembled, values: Evaluation) -> Iterator[Patch]:
    base = expression.view
    if is_covered(expression, SMALL) is False:
        raise NotUnderstoodError("a part of it is never written", expression)
    written = [(view, e) for view, e in expression.writes if not isinstance(e, Unwritten)]
    if is_covered(expression, SMALL) is None and not _cover(written, base):
        raise NotUnderstoodError("a part of it is perhaps never written", expression)
    for view, content in written:
        if view == base:
            yield from patches(content, values)
        elif (bounds := view.bounds_in(base)) is not None:
            yield from _inserted(content, view, base, bounds, values)
        elif (bounds := base.bounds_in(view)) is not None:
            yield from _cut(content, view, base, bounds, values)
        elif view.covers(base) and base.is_injective:
            yield from _seen_through(content, view, base, values)
        elif view.end > base.offset and view.offset < base.end:
            raise NotUnderstoodError("it is written in parts that are no rectangles", content)


def _inserted(
    content: Expression, view: Geometry, base: Geometry, bounds: Bounds, values: Evaluation
) -> Iterator[Patch]:
    """A content that was written into a rectangle."""
    inner = patches(content, values)
    sizes = tuple(high - low for low, high in bounds)
    if _axes(view.shape, view.strides) == _axes(sizes, base.strides):
        places = [i for i, size in enumerate(view.shape) if size != 1]
        into = [i for i, size in enumerate(sizes) if size != 1]
        for patch in inner:
            moved = list(bounds)
            for place, axis in zip(places, into, strict=True):
                low, high = patch.bounds[place]
                moved[axis] = (bounds[axis][0] + low, bounds[axis][0] + high)
            yield Patch(tuple(moved), patch.cell)
        return
    if len(inner) != 1 or not _keeps(inner[0].cell.law, view.shape, sizes, transposed=True):
        yield from _turned(inner, view, base, content, "it is written in another order of axes")
        return
    yield Patch(bounds, inner[0].cell.placed("view", view, base))


def _cut(
    content: Expression, view: Geometry, base: Geometry, bounds: Bounds, values: Evaluation
) -> Iterator[Patch]:
    """A rectangle of a content, which is all that is read."""
    sizes = tuple(high - low for low, high in bounds)
    inner = patches(content, values)
    is_same_order = _axes(sizes, view.strides) == _axes(base.shape, base.strides)
    if not is_same_order or len(sizes) != len(base.shape):
        yield from _seen_through(content, view, base, values)
        return
    for patch in inner:
        seen = tuple(
            (max(low, first), min(high, last))
            for (low, high), (first, last) in zip(patch.bounds, bounds, strict=True)
        )
        if any(low >= high for low, high in seen):
            continue
        if seen != patch.bounds and not patch.cell.law.is_independent:
            raise NotUnderstoodError(f"it is a part of {law_text(patch.cell.law)}", content)
        inside = _relative(seen, patch.bounds)
        cell = patch.cell if seen == patch.bounds else patch.cell.placed("part", inside)
        yield Patch(_relative(seen, bounds), cell)


def _seen_through(
    content: Expression, view: Geometry, base: Geometry, values: Evaluation
) -> Iterator[Patch]:
    """A content of one law, or all of a content of several, seen in another order."""
    inner = patches(content, values)
    if len(inner) != 1 or not _keeps(inner[0].cell.law, view.shape, base.shape, transposed=True):
        reason = "it is read in another order of axes"
        if view.size != base.size:
            raise NotUnderstoodError(reason, content)
        yield from _turned(inner, view, base, content, reason)
        return
    whole = tuple((0, size) for size in base.shape)
    yield Patch(whole, inner[0].cell.placed("view", view, base))


def _turned(
    inner: list[Patch], view: Geometry, base: Geometry, content: Expression, reason: str
) -> Iterator[Patch]:
    """The patches of a content seen in another shape or order, each as rectangles of that.

    So a fused weight, of which each head has its rows of the query and then of the key, is a
    rectangle for each of these.
    """
    if not all(patch.cell.law.is_independent for patch in inner):
        raise NotUnderstoodError(reason, content)
    count = 0
    for patch in inner:
        for part, place in _rectangles(patch.bounds, view, base):
            count += 1
            if place is None or count > _MOST_RECTANGLES:
                raise NotUnderstoodError(reason, content)
            cell = patch.cell
            if part != patch.bounds:
                cell = cell.placed("part", _relative(part, patch.bounds))
            yield Patch(place, cell.placed("view", view, base))


def _rectangles(
    bounds: Bounds, view: Geometry, base: Geometry
) -> Iterator[tuple[Bounds, Bounds | None]]:
    """Parts of a rectangle of a view that are rectangles of `base` too, each with that one.

    The last one has None where there are none.
    """
    if any(low >= high for low, high in bounds):
        return
    sizes = tuple(high - low for low, high in bounds)
    begins = (low * step for (low, _), step in zip(bounds, view.strides, strict=True))
    place = Geometry(sizes, view.strides, view.offset + sum(begins)).bounds_in(base)
    if place is not None or math.prod(sizes) == 1:
        yield bounds, place
        return
    # Apart along the axis of the longest steps.
    axis = max((i for i, size in enumerate(sizes) if size > 1), key=lambda i: view.strides[i])
    for start in range(*bounds[axis]):
        part = (*bounds[:axis], (start, start + 1), *bounds[axis + 1 :])
        yield from _rectangles(part, view, base)


def _softplus_inverted(law: Law) -> Law:
    return through_function(law, "inverse_softplus")


def _keeps(
    law: Law, before: tuple[int, ...], after: tuple[int, ...], *, transposed: bool = False
) -> bool:
    """Whether elements of a law have it in another shape or order too."""
    if law.is_independent:
        return True
    if isinstance(law, Orthogonal) and math.prod(before) == math.prod(after):
        # torch flattens all axes after the first. A transposed matrix of this law has it too.
        same_rows = before[0] == after[0]
        is_turned = transposed and len(before) == len(after) == 2 and before == after[::-1]
        return (same_rows and not transposed) or is_turned
    return False


def _refuse_conversion(x: Expression, call: Call) -> None:
    if x.is_random and not call.dtype.is_floating_point:
        raise NotUnderstoodError(f"a draw is converted to {call.dtype}", call)


def _cover(written: list[tuple[Geometry, Expression]], base: Geometry) -> bool:
    """Whether rectangles that do not overlap have as many elements as what is read."""
    found = [view.bounds_in(base) for view, _ in written]
    known = [bounds for bounds in found if bounds is not None]
    for number, bounds in enumerate(known):
        if not all(are_apart(bounds, other) for other in known[:number]):
            return False
    return sum(math.prod(high - low for low, high in bounds) for bounds in known) == base.size


def _axes(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]


def _moved(bounds: Bounds, axis: int, begin: int) -> Bounds:
    low, high = bounds[axis]
    return (*bounds[:axis], (low + begin, high + begin), *bounds[axis + 1 :])


def _relative(bounds: Bounds, outer: Bounds) -> Bounds:
    pairs = zip(bounds, outer, strict=True)
    return tuple((low - first, high - first) for (low, high), (first, _) in pairs)


def _sources(expression: Expression) -> tuple[Source, ...]:
    return () if expression.source is None else (expression.source,)
