"""Expressions: how the content of a tensor was made, as a graph of calls over draws and data.

An expression never changes: a write to a tensor gives its storage another expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from initclient._laws import Law, Source, law_text
from initclient.torch._trace.generator import Start
from initclient.torch._trace.geometry import Geometry


@dataclass(eq=False, slots=True)
class Expression:
    """The content of a tensor.

    Attributes:
        shape: its shape.
        dtype: its element type.
        source: the line that made it; None where no single line did.
        is_random: whether a draw takes part in it.
        depth: the longest way to a leaf, in expressions.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    source: Source | None = field(default=None, kw_only=True)
    is_random: bool = field(default=False, init=False)
    depth: int = field(default=0, init=False)

    def operands(self) -> Iterator[Expression]:
        """The expressions that it is made of."""
        return iter(())

    def _derive(self) -> None:
        for operand in self.operands():
            self.is_random = self.is_random or operand.is_random
            self.depth = max(self.depth, operand.depth + 1)


@dataclass(eq=False, slots=True)
class Filled(Expression):
    """One number everywhere."""

    value: float | int | bool | complex


@dataclass(eq=False, slots=True)
class Data(Expression):
    """Values from outside: lists, NumPy arrays, files, tensors that were there before.

    Attributes:
        tensor: a copy of the values, on the CPU.
    """

    tensor: torch.Tensor


@dataclass(eq=False, slots=True)
class Unwritten(Expression):
    """Memory that was asked for, and not yet written."""


@dataclass(eq=False, slots=True)
class Unseen(Expression):
    """Content that the recording cannot know.

    Attributes:
        reason: why, as half a sentence.
    """

    reason: str


@dataclass(eq=False, slots=True)
class Drawn(Expression):
    """A draw.

    Attributes:
        law: its distribution.
        number: its place in the order of all draws of a recording.
        draw: makes it with torch's generator, in the same geometry on the CPU.
        own_generator: whether a Generator of the model's own makes it, so that it does not
            depend on a seed of the user.
        start: where in torch's generator it begins; None if it takes no numbers of that.
    """

    law: Law
    number: int
    draw: Callable[[], torch.Tensor] = field(repr=False)
    own_generator: bool = False
    start: Start | None = None

    def __post_init__(self) -> None:
        self.is_random = True


@dataclass(eq=False, slots=True)
class Call(Expression):
    """The result of an operation of torch.

    Attributes:
        function: the operation.
        args: its arguments, with expressions for tensors.
        keywords: its keyword arguments, likewise.
        changed: the operand that the operation changes in place, and that this is afterwards.
        output: which of the operation's results this is.
        overwrites: whether the old values of `changed` do not count (`out=`).
    """

    function: Any
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    changed: Expression | None = None
    output: int = 0
    overwrites: bool = False

    def __post_init__(self) -> None:
        self._derive()

    def operands(self) -> Iterator[Expression]:
        """The arguments that are tensors."""
        leaves = tree_leaves((self.args, self.keywords))
        return (leaf for leaf in leaves if isinstance(leaf, Expression))

    @property
    def name(self) -> str:
        """The operation's name, such as "mul"; the same for its form in place."""
        return operation_name(self.function)


@dataclass(eq=False, slots=True)
class Assembled(Expression):
    """What a view of a storage sees of several writes, or of a part of one.

    Attributes:
        writes: (view that was written, its content), the earliest first.
        view: the view that is read.
    """

    writes: tuple[tuple[Geometry, Expression], ...]
    view: Geometry

    def __post_init__(self) -> None:
        self._derive()

    def operands(self) -> Iterator[Expression]:
        """The contents that were written."""
        return (content for _, content in self.writes)


def operation_name(function: Any) -> str:
    """The name of an operation of torch without its namespace, its overload and its underscore."""
    name = str(function._schema.name).rpartition("::")[2]
    return name if name.endswith("__") else name.rstrip("_") or name


def text(expression: Expression, depth: int = 4) -> str:
    """An expression for people, such as "mul(normal(mean=0, std=1), data)"."""
    if isinstance(expression, Drawn):
        return law_text(expression.law)
    if isinstance(expression, Filled):
        return repr(expression.value)
    if isinstance(expression, Data):
        return f"data of shape {list(expression.shape)}"
    if isinstance(expression, Unwritten):
        return "unwritten memory"
    if isinstance(expression, Unseen):
        return f"something not seen ({expression.reason})"
    if depth == 0:
        return "..."
    if isinstance(expression, Assembled):
        contents = [text(content, depth - 1) for _, content in expression.writes[-3:]]
        return f"pieces({', '.join(contents)})" if len(contents) > 1 else f"part({contents[0]})"
    assert isinstance(expression, Call)
    inner = [
        text(leaf, depth - 1) if isinstance(leaf, Expression) else f"{leaf:g}"
        for leaf in tree_leaves(expression.args)
        if isinstance(leaf, Expression | float | int) and not isinstance(leaf, bool)
    ]
    shown = inner[:4] + (["..."] if len(inner) > 4 else [])
    return f"{expression.name}({', '.join(shown)})"
