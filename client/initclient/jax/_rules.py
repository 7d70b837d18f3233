"""Rules: which leaves of a tree get which initializer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, TypeAlias

from initcore import Tensor

Initializer: TypeAlias = Callable[..., Tensor]
"""A builder such as `ic.lecun_normal`, or anything called like one: with the shape, and
`dtype=` as a keyword, it returns a `Tensor`."""

Where: TypeAlias = str | re.Pattern[str]
"""What a rule may match by: a glob or a regular expression for names."""

# The tree says these; a rule that did would contradict it.
_TAKEN = ("shape", "dtype", "stream")


@dataclass(frozen=True)
class Rule:
    """An initializer and the leaves it is for; `rule` makes it.

    Attributes:
        where: what it matches by.
        initializer: what makes the tensor.
        arguments: the initializer's arguments.
    """

    where: Where
    initializer: Initializer
    arguments: Mapping[str, Any]

    def matches(self, name: str) -> bool:
        """Whether it is for the leaf of this name."""
        if isinstance(self.where, str):
            return fnmatchcase(name, self.where)
        return self.where.fullmatch(name) is not None

    def __repr__(self) -> str:
        initializer = getattr(self.initializer, "__name__", repr(self.initializer))
        parts = [repr(self.where), initializer]
        parts += [f"{name}={value!r}" for name, value in self.arguments.items()]
        return f"rule({', '.join(parts)})"


def rule(where: Where, initializer: Initializer, /, **arguments: Any) -> Rule:
    """A rule for `plan`: these leaves get this initializer.

    Args:
        where: a glob for the leaf's whole name, in which `*` also matches slashes; or a
            compiled regular expression that matches the whole name.
        initializer: a builder such as `ic.lecun_normal`, without a shape; or any function
            that takes the shape, and dtype as a keyword, and returns what a builder returns.
        arguments: the builder's arguments. Kernels of JAX are [*window, in, out]: builders
            that count fans need `layout="jax"`, and stacked layers `batch_axes=(0,)`.

    Raises:
        TypeError: for anything else, and for shape, dtype or stream, which the tree gives.

    Example:
        >>> import initclient as ic
        >>> from initclient.jax import rule
        >>> rule("*/head/kernel", ic.glorot_normal, layout="jax")
        rule('*/head/kernel', glorot_normal, layout='jax')
    """
    if not isinstance(where, str | re.Pattern):
        raise TypeError(
            f"a rule matches by {where!r}; give a pattern of names such as '*/bias', or a compiled "
            "regular expression"
        )
    if not callable(initializer):
        raise TypeError(
            f"the initializer of the rule for {where!r} is {initializer!r}; give a builder "
            "without its shape, such as ic.zeros, and its arguments as keywords"
        )
    for name in _TAKEN:
        if name in arguments:
            raise TypeError(
                f"the rule for {where!r} has {name}={arguments[name]!r}; {name} comes from the tree"
            )
    return Rule(where, initializer, MappingProxyType(arguments))
