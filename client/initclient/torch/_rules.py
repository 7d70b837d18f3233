"""Rules: which parameters get which initializer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, TypeAlias

from initcore import Tensor
from torch import nn

from initclient.torch._members import Member

Initializer: TypeAlias = Callable[..., Tensor]
"""A builder such as `ic.kaiming_normal`, or anything called like one: with the shape, and
`dtype=` as a keyword, it returns a `Tensor`."""

Where: TypeAlias = str | re.Pattern[str] | type[nn.Module] | tuple[type[nn.Module], ...]
"""What a rule may match by: a glob or regular expression for names, or types of modules."""

# The model says these; a rule that did would contradict it.
_TAKEN = ("shape", "dtype", "stream")


@dataclass(frozen=True)
class Rule:
    """An initializer and the parameters it is for; `rule` makes it.

    Attributes:
        where: what it matches by.
        initializer: what makes the tensor.
        arguments: the initializer's arguments.
        parameter: the one parameter (or buffer) of a matching module, if not all.
    """

    where: Where
    initializer: Initializer
    arguments: Mapping[str, Any]
    parameter: str | None = None

    def matches(self, member: Member) -> bool:
        """Whether it is for this parameter or buffer."""
        if self.parameter is not None and self.parameter != member.attribute:
            return False
        # A type or a pattern that is wide enough for weights is not meant for running means
        # and counters: those a rule must spell out.
        if member.is_buffer and not self._spells_out(member.attribute):
            return False
        if isinstance(self.where, str):
            return fnmatchcase(member.name, self.where)
        if isinstance(self.where, re.Pattern):
            return self.where.fullmatch(member.name) is not None
        return isinstance(member.owner, self.where)

    def _spells_out(self, attribute: str) -> bool:
        pattern = self.where if isinstance(self.where, str) else ""
        return attribute in (self.parameter, pattern.rpartition(".")[2])

    def __repr__(self) -> str:
        parts = [_where_text(self.where), _callable_text(self.initializer)]
        if self.parameter is not None:
            parts.append(f"parameter={self.parameter!r}")
        parts += [f"{name}={value!r}" for name, value in self.arguments.items()]
        return f"rule({', '.join(parts)})"


def rule(
    where: Where, initializer: Initializer, /, *, parameter: str | None = None, **arguments: Any
) -> Rule:
    """A rule for `plan`: these parameters get this initializer.

    Args:
        where: a glob for the parameter's whole name, in which `*` also matches dots; a
            compiled regular expression that matches the whole name; or the type, or types,
            of the module that owns it, subclasses included.
        initializer: a builder such as `ic.kaiming_normal`, without a shape; or any function
            that takes the shape, and dtype as a keyword, and returns what a builder returns.
        parameter: the one parameter of a matching module, such as "weight"; default all.
            Buffers only match a rule that spells out their own name, here or at the end of
            the glob.
        arguments: the builder's arguments, such as `nonlinearity="relu"`.

    Raises:
        TypeError: for anything else, and for shape, dtype or stream, which the model gives.

    Example:
        >>> import initclient as ic
        >>> from initclient.torch import rule
        >>> rule("*.bias", ic.zeros)
        rule('*.bias', zeros)
    """
    kinds = where if isinstance(where, tuple) else (where,)
    by_type = all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds)
    if not (isinstance(where, str | re.Pattern) or (kinds and by_type)):
        raise TypeError(
            f"a rule matches by {where!r}; give a pattern of names such as '*.bias', a compiled "
            "regular expression, or a type of module such as nn.Linear"
        )
    if not callable(initializer):
        raise TypeError(
            f"the initializer of the rule for {_where_text(where)} is {initializer!r}; give a "
            "builder without its shape, such as ic.zeros, and its arguments as keywords"
        )
    for name in _TAKEN:
        if name in arguments:
            raise TypeError(
                f"the rule for {_where_text(where)} has {name}={arguments[name]!r}; {name} comes "
                "from the model"
            )
    return Rule(where, initializer, MappingProxyType(arguments), parameter)


def given(shape: tuple[int, ...], **common: Any) -> Tensor:
    """The initializer of what no plan draws: `init_` is handed its values, with `values=`.

    For parameters that are computed and not drawn, such as sinusoidal positions. The plan
    leaves them out.
    """
    raise TypeError("given is the initializer of a rule; it makes no tensor")


def _where_text(where: Where) -> str:
    if isinstance(where, tuple):
        return f"({', '.join(kind.__name__ for kind in where)})"
    return where.__name__ if isinstance(where, type) else repr(where)


def _callable_text(function: Initializer) -> str:
    return getattr(function, "__name__", repr(function))
