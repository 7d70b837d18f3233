"""Expressions: how the content of a tensor was made, as a graph of calls over draws and data.

An expression never changes: a write to a tensor gives its storage another expression.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_leaves

from initclient._laws import Law, Source, law_text
from initclient.torch._trace.generator import Start
from initclient.torch._trace.geometry import Geometry

# Bytes of data that are worth comparing.
_FEW_BYTES = 1 << 20

# Operations that say whether they draw. One of another library may have other values each time.
_DECLARED = ("aten", "prims")

_NAMED = int | float | complex | str | None | torch.dtype | torch.device | torch.layout
_numbers = itertools.count()


@dataclass(eq=False, slots=True)
class Expression:
    """The content of a tensor.

    Attributes:
        shape: its shape.
        dtype: its element type.
        source: the line that made it; None where no single line did.
        is_random: whether a draw takes part in it.
        depth: the longest way to a leaf, in expressions.
        known_as: what `identity` has found.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    source: Source | None = field(default=None, kw_only=True)
    is_random: bool = field(default=False, init=False)
    depth: int = field(default=0, init=False)
    known_as: bytes = field(default=b"", init=False, repr=False)

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
class Kept(Unseen):
    """Content of a tensor that an earlier run of the code made, and that the code keeps."""


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


def identity(expression: Expression) -> bytes:
    """Names an expression by how it was made: expressions of one identity have equal values.

    These are the same operations over the same data, as the rotary frequencies of each layer. An
    expression with draws, with large data, or with an operation that is not torch's own has an
    identity of its own.
    """
    # By a stack of its own: models build long chains, and Python's stack is short.
    stack = [expression]
    while stack:
        top = stack[-1]
        waiting = [] if top.known_as or top.is_random else [*top.operands()]
        waiting = [one for one in waiting if not one.known_as]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        top.known_as = top.known_as or _named(top) or f"number {next(_numbers)}".encode()
    return expression.known_as


def _named(expression: Expression) -> bytes:
    """The identity of an expression whose operands have theirs; empty if it is its own."""
    made: Any
    if expression.is_random or isinstance(expression, Unseen):
        return b""
    if isinstance(expression, Filled):
        made = expression.value
    elif isinstance(expression, Data):
        if expression.tensor.nbytes > _FEW_BYTES:
            return b""
        flat = expression.tensor.resolve_conj().resolve_neg().contiguous().flatten()
        made = hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).digest()
    elif isinstance(expression, Assembled):
        made = expression.view, [(view, one.known_as) for view, one in expression.writes]
    elif isinstance(expression, Call):
        leaves, structure = tree_flatten((expression.args, dict(expression.keywords)))
        if expression.function.namespace not in _DECLARED:
            return b""
        if not all(isinstance(leaf, Expression | _NAMED) for leaf in leaves):
            return b""
        names = [
            (leaf is expression.changed, leaf.known_as) if isinstance(leaf, Expression) else leaf
            for leaf in leaves
        ]
        function = str(expression.function)
        made = function, names, str(structure), expression.output, expression.overwrites
    else:
        made = None
    whole = (type(expression).__name__, expression.shape, expression.dtype, made)
    return hashlib.sha256(repr(whole).encode()).digest()


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
    if isinstance(expression, Kept):
        return "a tensor that the code keeps"
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
