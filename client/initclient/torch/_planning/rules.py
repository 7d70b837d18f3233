"""Rules: which parameters get which initializer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from initcore import Tensor
from torch import nn

from initclient._plan import Initializer, checked
from initclient._plan import Rule as NameRule
from initclient.torch._model import Member

__all__ = ["Initializer", "Rule", "Where", "given", "keep", "rule"]

Where: TypeAlias = str | re.Pattern[str] | type[nn.Module] | tuple[type[nn.Module], ...]
"""The pattern of a rule: a glob or regular expression for names, or types of modules."""


@dataclass(frozen=True, repr=False)
class Rule(NameRule):
    """An initializer and a pattern of the parameters that get it; `rule` makes it.

    Attributes:
        where: the pattern.
        initializer: makes the tensor.
        arguments: the initializer's arguments.
        parameter: the one parameter (or buffer) of a matching module; None means all.
    """

    where: Where

    def matches(self, member: Member) -> bool:
        """Whether it matches this parameter or buffer."""
        if self.parameter is not None and self.parameter != member.attribute:
            return False
        # A type or a glob for weights is not meant for running means and counters: a rule for a
        # buffer must spell out its name.
        if member.is_buffer and not self._spells_out(member.attribute):
            return False
        if isinstance(self.where, str | re.Pattern):
            return self.matches_name(member.name)
        return isinstance(member.owner, self.where)

    def _spells_out(self, attribute: str) -> bool:
        pattern = self.where if isinstance(self.where, str) else ""
        return attribute in (self.parameter, pattern.rpartition(".")[2])


def rule(
    where: Where, initializer: Initializer, /, *, parameter: str | None = None, **arguments: Any
) -> Rule:
    """A rule for `plan`: these parameters get this initializer.

    Args:
        where: a glob for the parameter's whole name, in which `*` also matches dots; a
            compiled regular expression that matches the whole name; or the type, or types,
            of the module that owns it, subclasses included.
        initializer: a builder such as `ic.kaiming_normal`, without a shape; or any function that
            takes the shape, and dtype as a keyword, and returns a `Tensor`.
        parameter: the one parameter of a matching module, such as "weight"; default all.
            Buffers only match a rule that spells out their own name, here or at the end of
            the glob.
        arguments: the builder's arguments, such as `nonlinearity="relu"`.

    Raises:
        TypeError: for an argument of another type, and for shape, dtype or stream, which the
            model gives.

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
    return Rule(where, initializer, checked(where, initializer, arguments, "the model"), parameter)


def given(shape: tuple[int, ...], **common: Any) -> Tensor:
    """The initializer of parameters that the plan leaves out: pass them to `init_(values=...)`.

    For parameters that are computed and not drawn, such as sinusoidal positions.
    """
    raise TypeError("given is the initializer of a rule; it makes no tensor")


def keep(shape: tuple[int, ...], **common: Any) -> Tensor:
    """The initializer of what stays as it is: no plan draws it, and `init_` does not touch it.

    For parameters with values already, such as the frozen base of a model with adapters. The plan
    leaves them out, under all names of a tied tensor, and lists them as `plan.kept`; a plan's
    file does not, so give `init_(..., keep="base.*")` with a plan that was read from one. On the
    meta device nothing has values, and `init_` refuses to keep them.
    """
    raise TypeError("keep is the initializer of a rule for models of torch; it makes no tensor")
