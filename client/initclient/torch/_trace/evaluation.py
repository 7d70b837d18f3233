"""Evaluation: the values of an expression, on the CPU.

Without draws it gives what is computed, exactly as torch computes it. With them it replays a
recording: the same operations over other draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from initclient.torch._trace.expressions import (
    Assembled,
    Call,
    Data,
    Drawn,
    Expression,
    Filled,
    Unseen,
    Unwritten,
    identity,
    text,
)
from initclient.torch._trace.memory import is_covered

UNDECLARED = {
    "native_batch_norm": (3, 4),
    "cudnn_batch_norm": (3, 4),
    "miopen_batch_norm": (3, 4),
    "batch_norm_gather_stats": (3, 4),
    "batch_norm_update_stats": (1, 2),
}
"""Operations that change running statistics, which their schemas do not say: the arguments."""

# Deterministic content this deep is computed at once: loops over rows would make endless chains.
_DEEP = 100
_SMALL = 1 << 20
# Elements of a storage whose coverage is checked one by one.
_COVERAGE_LIMIT = 1 << 26


class NoValueError(Exception):
    """An expression has no value: draws take part in it, or memory that nothing has written.

    Attributes:
        expression: the part that has none.
    """

    def __init__(self, expression: Expression, reason: str) -> None:
        super().__init__(reason)
        self.expression = expression


class Evaluation:
    """Values of expressions, each computed once, and those of one identity together.

    Args:
        draws: the values of draws, by their number; without them a draw has no value.
    """

    def __init__(self, draws: Mapping[int, torch.Tensor] | None = None) -> None:
        self._draws = draws or {}
        self._values: dict[bytes, torch.Tensor] = {}

    def value(self, expression: Expression) -> torch.Tensor:
        """The values of an expression; the caller must not change them.

        Raises:
            NoValueError: if it has none.
        """
        with _disable_current_modes(), torch.device("cpu"), torch.no_grad():
            # By a stack of its own: models build long chains, and Python's stack is short.
            stack = [expression]
            while stack:
                top = stack[-1]
                if identity(top) in self._values:
                    stack.pop()
                    continue
                waiting = [one for one in top.operands() if identity(one) not in self._values]
                waiting = [one for one in waiting if not _is_skipped(top, one)]
                if waiting:
                    stack += waiting
                    continue
                self._values[identity(top)] = self._compute(top)
                stack.pop()
        return self._values[identity(expression)]

    def _compute(self, expression: Expression) -> torch.Tensor:
        if isinstance(expression, Filled):
            return torch.full(expression.shape, expression.value, dtype=expression.dtype)
        if isinstance(expression, Data):
            return expression.tensor
        if isinstance(expression, Drawn):
            if expression.number not in self._draws:
                raise NoValueError(expression, f"it is drawn at random, {text(expression)}")
            return self._draws[expression.number]
        if isinstance(expression, Unwritten) and 0 in expression.shape:
            return torch.empty(expression.shape, dtype=expression.dtype)
        if isinstance(expression, Unwritten):
            raise NoValueError(expression, "nothing has written it")
        if isinstance(expression, Unseen):
            raise NoValueError(expression, expression.reason)
        if isinstance(expression, Assembled):
            return self._assemble(expression)
        assert isinstance(expression, Call)
        return self._call(expression)

    def _assemble(self, expression: Assembled) -> torch.Tensor:
        if is_covered(expression, _COVERAGE_LIMIT) is not True:
            raise NoValueError(expression, "nothing has written a part of it")
        end = max([expression.view.end, *(view.end for view, _ in expression.writes)])
        flat = torch.zeros(end, dtype=expression.dtype)
        for view, content in expression.writes:
            if not isinstance(content, Unwritten):
                view.on(flat).copy_(self._values[identity(content)])
        return expression.view.on(flat).clone()

    def _call(self, call: Call) -> torch.Tensor:
        target: list[torch.Tensor] = []

        def operand(leaf: Any) -> Any:
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            if not isinstance(leaf, Expression):
                return leaf
            if leaf is not call.changed:
                found = self._values[identity(leaf)]
                return found.clone() if call.name in UNDECLARED else found
            if not target:
                target.append(
                    torch.empty(leaf.shape, dtype=leaf.dtype)
                    if call.overwrites
                    else self._values[identity(leaf)].clone()
                )
            return target[0]

        arguments = tree_map(operand, call.args)
        keywords = tree_map(operand, dict(call.keywords))
        result = call.function(*arguments, **keywords)
        if target:
            return target[0]
        return result if isinstance(result, torch.Tensor) else tensors_in(result)[call.output]

    def settled(self, content: Expression) -> torch.Tensor | None:
        """The values of content that took many steps; None if they are many, or unknown."""
        large = math.prod(content.shape) > _SMALL
        if content.depth < _DEEP or content.is_random or large:
            return None
        try:
            return self.value(content)
        except NoValueError:
            return None


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """The tensors within lists, tuples and dicts, in order."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [tensor for one in tree for tensor in tensors_in(one)]
    return []


def _is_skipped(top: Expression, operand: Expression) -> bool:
    """Whether an operand's values do not count: what `out=` names, or later writes may hide."""
    if isinstance(top, Call):
        return top.overwrites and operand is top.changed
    return isinstance(operand, Unwritten)
