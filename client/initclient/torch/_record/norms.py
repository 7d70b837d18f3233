"""Norms: which dimensions of which content a norm is taken over, as weight norm does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import _disable_current_modes

from initclient.torch._trace import Assembled, Call, Expression

# Elements whose places are followed one by one: 512 MiB of indices.
_MOST = 1 << 26

_COPIES = {"clone", "copy", "contiguous", "lift_fresh_copy", "alias_copy", "detach_copy"}


@dataclass(frozen=True)
class NormOf:
    """A norm.

    Attributes:
        content: what it is the norm of.
        axes: the dimensions of the content that it is not taken over.
    """

    content: Expression
    axes: tuple[int, ...]


def norm_of(expression: Expression) -> NormOf | None:
    """What an expression is the Euclidean norm of; None for anything else.

    The content may have been viewed in other shapes and orders before, and the norm after: places
    are followed as numbers, so that every way to write it is right by construction.
    """
    root = _root(expression)
    if not isinstance(root, Call) or not root.is_random or _order(root) != 2:
        return None
    content = _root(root.args[0])
    if not 0 < math.prod(content.shape) <= _MOST or not content.dtype.is_floating_point:
        return None
    with _disable_current_modes(), torch.no_grad(), torch.device("cpu"):
        return _followed(expression, root, content)


def _followed(expression: Expression, norm: Call, content: Expression) -> NormOf | None:
    outputs = _places(expression).flatten()
    count = math.prod(norm.shape)
    if count != len(outputs) or not torch.equal(outputs.sort().values, torch.arange(count)):
        return None
    operand = _places(norm.args[0])
    reduced = _dimensions(norm, operand.dim())
    kept = [axis for axis in range(operand.dim()) if axis not in reduced]
    rows = operand.permute(*kept, *reduced).reshape(count, -1)[outputs]
    if operand.numel() != math.prod(content.shape):
        return None
    # The row of the norm that each element of the content counts for.
    owner = torch.full((operand.numel(),), -1)
    owner[rows] = torch.arange(count)[:, None].expand(rows.shape)
    owner = owner.reshape(content.shape)
    axes = tuple(
        axis
        for axis, size in enumerate(content.shape)
        if size > 1 and bool((owner.narrow(axis, 0, 1) != owner.narrow(axis, 1, 1)).any())
    )
    shape = [size if axis in axes else 1 for axis, size in enumerate(content.shape)]
    if math.prod(shape) != count:
        return None
    expected = torch.arange(count).reshape(shape).expand(content.shape)
    return NormOf(content, axes) if torch.equal(owner, expected) else None


def _order(call: Call) -> float | None:
    """The order of a norm, 2 for the Euclidean one; None for other operations."""
    names = {"norm": ("p", 2), "linalg_vector_norm": ("ord", 2)}
    if call.name not in names or not isinstance(call.args[0], Expression):
        return None
    keyword, default = names[call.name]
    given = call.args[1] if len(call.args) > 1 else call.keywords.get(keyword)
    given = default if given is None else given
    return float(given) if isinstance(given, int | float) else None


def _dimensions(norm: Call, rank: int) -> list[int]:
    given = norm.args[2] if len(norm.args) > 2 else norm.keywords.get("dim")
    if isinstance(given, int):
        given = [given]
    return sorted(axis % rank for axis in given) if given else list(range(rank))


def _root(expression: Expression) -> Expression:
    """The content that an expression shows in another shape or order, or itself."""
    while (inner := _shown(expression)) is not None:
        expression = inner
    return expression


def _shown(expression: Expression) -> Expression | None:
    if isinstance(expression, Assembled) and len(expression.writes) == 1:
        ((view, content),) = expression.writes
        seen = expression.view
        is_all = math.prod(seen.shape) == math.prod(view.shape) == math.prod(content.shape)
        return content if view.covers(seen) and seen.is_injective and is_all else None
    if isinstance(expression, Call) and expression.name in _COPIES:
        copied = expression.args[1] if expression.name == "copy" else expression.args[0]
        if isinstance(copied, Expression) and copied.shape == expression.shape:
            return copied if copied.dtype == expression.dtype else None
    return None


def _places(expression: Expression) -> torch.Tensor:
    """Where in its root each element of an expression is, as numbers row by row."""
    inner = _shown(expression)
    if inner is None:
        return torch.arange(math.prod(expression.shape)).reshape(expression.shape)
    found = _places(inner)
    if not isinstance(expression, Assembled):
        return found
    ((view, _),) = expression.writes
    flat = torch.zeros(max(view.end, expression.view.end), dtype=torch.int64)
    view.on(flat).copy_(found)
    return expression.view.on(flat).clone()
