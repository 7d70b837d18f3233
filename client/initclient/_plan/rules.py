"""Rules: which tensors get which initializer, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from initcore import PlanError, Tensor, Violation
from initcore.plan import FrozenDict

from initclient._plan.pinning import owned

Initializer: TypeAlias = Callable[..., Tensor]
"""A builder such as `ic.kaiming_normal`, or any function that takes the shape, and `dtype=` as a
keyword, and returns a `Tensor`."""

# The file or model gives these arguments; a rule must not contradict it.
_TAKEN = ("shape", "dtype", "stream")

# Their initializers make arrays, or fill them.
_WITH_ARRAYS = ("flax", "jax", "keras", "numpy", "tensorflow", "torch")


@dataclass(frozen=True)
class Rule:
    """An initializer and a pattern of the tensors that get it; `rule` makes it.

    Attributes:
        where: the pattern.
        initializer: makes the tensor.
        arguments: the initializer's arguments.
        parameter: the last part of the names that match; None means any.
    """

    where: Any
    initializer: Initializer
    arguments: Mapping[str, Any]
    parameter: str | None = None

    def matches_name(self, name: str) -> bool:
        """Whether its pattern matches this name; a rule without a pattern matches none."""
        if self.parameter is not None and self.parameter != name.rpartition(".")[2]:
            return False
        if isinstance(self.where, re.Pattern):
            return self.where.fullmatch(name) is not None
        return isinstance(self.where, str) and fnmatchcase(name, self.where)

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        fits: Callable[[tuple[int, ...]], bool] | None = None,
    ) -> Tensor:
        """The tensor that its initializer makes; its parts get streams under its name.

        Args:
            name: the tensor's name.
            shape: its shape, which the initializer gets.
            dtype: its element type.
            fits: which shapes the initializer may make; None means this one only.

        Raises:
            TypeError: if the initializer does not take the arguments, or makes no `Tensor`.
            PlanError: if the builder refuses a value, or makes another shape; it names the
                tensor.
        """
        try:
            made = self.initializer(shape, dtype=dtype, **self.arguments)
            if not isinstance(made, Tensor):
                kind = type(made).__name__
                raise TypeError(f"the initializer returned a {kind}, which is no Tensor")
            if not (made.shape == shape if fits is None else fits(made.shape)):
                message = f"is {list(made.shape)} by {self!r}, whose function got {list(shape)}"
                raise PlanError([Violation(name, "shape", message)])
            return owned(made, name)
        except TypeError as error:
            raise TypeError(f"{self!r} does not fit {name}: {error}") from error
        except PlanError as error:
            raise named(error, name) from error

    def __repr__(self) -> str:
        parts = [where_text(self.where), _callable_text(self.initializer)]
        if self.parameter is not None:
            parts.append(f"parameter={self.parameter!r}")
        parts += [f"{name}={value!r}" for name, value in self.arguments.items()]
        return f"rule({', '.join(parts)})"


def rule(
    where: str | re.Pattern[str],
    initializer: Initializer,
    /,
    *,
    parameter: str | None = None,
    **arguments: Any,
) -> Rule:
    """A rule for `plan_from_safetensors`: tensors of these names get this initializer.

    `initclient.torch.rule` makes rules for models, which may also match by types of modules.

    Args:
        where: a glob for the whole name, in which `*` also matches dots; or a compiled regular
            expression that matches the whole name.
        initializer: a builder such as `ic.kaiming_normal`, without a shape; or any function that
            takes the shape, and dtype as a keyword, and returns a `Tensor`.
        parameter: the last part of the name, such as "weight"; default any.
        arguments: the builder's arguments, such as `nonlinearity="relu"`.

    Raises:
        TypeError: for an argument of another type, and for shape, dtype or stream, which the
            file gives.

    Example:
        >>> import initclient as ic
        >>> ic.rule("*.bias", ic.zeros)
        rule('*.bias', zeros)
    """
    return by_name(where, initializer, arguments, "the file", parameter)


def by_name(
    where: Any,
    initializer: Any,
    arguments: dict[str, Any],
    giver: str,
    parameter: str | None = None,
) -> Rule:
    """A rule that matches by names alone.

    Raises:
        TypeError: for another pattern, or arguments that a rule may not have.
    """
    if not isinstance(where, str | re.Pattern):
        raise TypeError(
            f"a rule matches by {where!r}; give a pattern of names such as '*bias', or a compiled "
            "regular expression"
        )
    return Rule(where, initializer, checked(where, initializer, arguments, giver), parameter)


def checked(
    where: Any, initializer: Any, arguments: dict[str, Any], giver: str
) -> Mapping[str, Any]:
    """A rule's arguments, after checks.

    Raises:
        TypeError: for arguments that a rule may not have, or an initializer that is no function.
    """
    if not callable(initializer):
        raise TypeError(
            f"the initializer of the rule for {where_text(where)} is {initializer!r}; give a "
            "builder without its shape, such as ic.zeros, and its arguments as keywords"
        )
    library = str(getattr(initializer, "__module__", "")).partition(".")[0]
    if library in _WITH_ARRAYS:
        raise TypeError(
            f"the initializer of the rule for {where_text(where)} is {library}'s "
            f"{_callable_text(initializer)}, which makes arrays; give the builder of this name, "
            "such as ic.zeros, and its arguments as keywords"
        )
    for name in _TAKEN:
        if name in arguments:
            raise TypeError(
                f"the rule for {where_text(where)} has {name}={arguments[name]!r}; {name} comes "
                f"from {giver}"
            )
    return FrozenDict(arguments)


def listed(rules: Any) -> tuple[Any, ...]:
    """The rules as they are given, one or several of them in a list.

    Raises:
        TypeError: for one rule that is in no list, and for what is no list.
    """
    if isinstance(rules, Rule) or not isinstance(rules, Iterable):
        raise TypeError(f"the rules are {rules!r}; give a list of rules, such as [rule(...)]")
    return tuple(rules)


def named(error: PlanError, name: str) -> PlanError:
    """The error of a builder, which does not know the tensor's name, with that name."""
    return PlanError(replace(v, tensor=v.tensor or name) for v in error.violations)


def where_text(where: Any) -> str:
    """A rule's pattern as text."""
    if isinstance(where, tuple):
        return f"({', '.join(kind.__name__ for kind in where)})"
    return where.__name__ if isinstance(where, type) else repr(where)


def _callable_text(function: Initializer) -> str:
    return getattr(function, "__name__", repr(function))
