"""Norms: tensors that are the norm of another one, as weight norm has them."""

from __future__ import annotations

import math

from initclient.torch._trace import Assembled, Call, Expression, Unwritten, contiguous

_COPIES = {"clone", "_to_copy", "contiguous", "alias_copy", "_unsafe_view", "_reshape_copy"}
_NORMS = {"norm", "linalg_vector_norm"}


def norm_of(expression: Expression) -> tuple[Expression, tuple[int, ...]] | None:
    """(x, axes) of the Euclidean norm of x over all dimensions but axes, of size 1 there.

    None for anything else. torch's `norm_except_dim` sees x as a matrix, whose rows or columns it
    sums up: x is followed through such views.
    """
    call = _unwrapped(expression)
    if not isinstance(call, Call) or call.name not in _NORMS or not _is_euclidean(call):
        return None
    seen = call.args[0]
    if not isinstance(seen, Expression):
        return None
    x = _unwrapped(seen)
    if len(x.shape) != len(expression.shape):
        return None
    pairs = list(enumerate(zip(expression.shape, x.shape, strict=True)))
    axes = tuple(axis for axis, (size, full) in pairs if size == full and full != 1)
    if any(size != 1 for axis, (size, _) in pairs if axis not in axes):
        return None
    return (x, axes) if _sums_over(call, seen, x, axes) else None


def _sums_over(call: Call, seen: Expression, x: Expression, axes: tuple[int, ...]) -> bool:
    """Whether the dimensions that a norm sums over are those of x that are not in axes."""
    rank = len(seen.shape)
    given = call.args[2] if len(call.args) > 2 else call.keywords.get("dim")
    summed = range(rank) if given is None or given == [] else [dim % rank for dim in given]
    if seen.shape == x.shape:
        return {i for i in range(rank) if i not in axes and x.shape[i] != 1} == {
            i for i in summed if x.shape[i] != 1
        }
    kept = math.prod(x.shape[axis] for axis in axes)
    others = [axis for axis, size in enumerate(x.shape) if axis not in axes and size != 1]
    if rank != 2 or len(summed) != 1:
        return False
    if list(summed) == [1]:
        return seen.shape[0] == kept and all(a < b for a in axes for b in others)
    return seen.shape[1] == kept and all(b < a for a in axes for b in others)


def _is_euclidean(call: Call) -> bool:
    order = call.args[1] if len(call.args) > 1 else call.keywords.get("ord", 2)
    return order is None or (isinstance(order, int | float) and order == 2)


def _unwrapped(expression: Expression) -> Expression:
    """What an expression is a copy of, or another shape of, row by row."""
    while True:
        inner: Expression | None = None
        if isinstance(expression, Call) and expression.name in _COPIES:
            first = expression.args[0]
            inner = first if isinstance(first, Expression) else None
        elif isinstance(expression, Assembled):
            inner = _seen_whole(expression)
        if inner is None or math.prod(inner.shape) != math.prod(expression.shape):
            return expression
        expression = inner


def _seen_whole(expression: Assembled) -> Expression | None:
    """The one content of a storage, if this is all of it, row by row."""
    written = [(view, e) for view, e in expression.writes if not isinstance(e, Unwritten)]
    if len(written) != 1:
        return None
    (view, content), read = written[0], expression.view
    is_plain = all(one == contiguous(one.shape)._replace(offset=one.offset) for one in (view, read))
    return content if is_plain and view.offset == read.offset else None
