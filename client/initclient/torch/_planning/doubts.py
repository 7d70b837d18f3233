"""Draws that are probably not meant: over frozen parameters, of adapters, on norms' weights, and
torch's defaults in models that initialize their weights themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from initcore import Tensor
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from initclient._plan import is_random
from initclient.torch._model import Member, OwnCode, initializes_itself
from initclient.torch._planning.defaults import default
from initclient.torch._planning.recipes import ModelRecipe
from initclient.torch._planning.rules import Rule

_SHOWN = 3

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)

_SCALES = ("weight", "scale", "gamma")


@dataclass(frozen=True)
class Decision:
    """What a plan draws for a parameter or buffer, and why.

    Attributes:
        member: the parameter or buffer.
        tensor: what the plan has for it.
        origin: the rule that decided, the user's or the recipe's; None if torch's default did.
    """

    member: Member
    tensor: Tensor
    origin: object


class Guesses:
    """Draws as torch's modules make them, in models that initialize their weights themselves.

    Where nothing was said they are refused. Where a recipe makes them, they are collected.

    Args:
        own_code: knows which models do, and the line that records them.
    """

    def __init__(self, own_code: OwnCode) -> None:
        self._own_code = own_code
        self._found: dict[str, list[Member]] = {}
        self._is_repetition = True

    def by_default(self, member: Member, tensor: Tensor) -> None:
        """Refuses a draw for a member that no rule covers.

        Raises:
            PlanError: naming it, if a module around it initializes its parts itself.
        """
        if is_random(tensor):
            self._own_code.refuse_default(member)

    def by_recipe(self, member: Member, tensor: Tensor, recipe: ModelRecipe, dtype: Any) -> None:
        """Notes a member that a recipe decides.

        A recipe that draws nothing but what torch's modules do is no choice of another
        distribution. One that lists the model's class is for it.
        """
        owner = initializes_itself(member)
        if owner is None or not is_random(tensor):
            return
        initializer = default(member)
        if initializer is None or initializer(member.shape, dtype=dtype) != tensor:
            self._is_repetition = False
        elif not recipe.names_model_of(member):
            self._found.setdefault(owner, []).append(member)

    def texts(self) -> list[str]:
        """What the user should know of them, as sentences: one for each class."""
        return [
            f"{owner} initializes its weights itself, which this plan does not repeat; "
            f"{some([one.name for one in found])} got the default of torch's module instead. Add "
            f"rules for them, or record that code: {self._own_code.recording_line(found[0])}"
            for owner, found in (self._found.items() if self._is_repetition else ())
        ]


def uncalled(classes: Sequence[str]) -> list[str]:
    """That recorded code leaves out how models of these classes are initialized, as sentences."""
    return [
        f"{kind} has an init_weights of its own, which the recorded code does not call, so the "
        "plan has what its constructor draws; record a function that builds the model and calls "
        "it, or give all parameters rules"
        for kind in classes
    ]


def doubts(decisions: Sequence[Decision]) -> list[str]:
    """What the user should know of these decisions, as sentences."""
    decisions = [one for one in decisions if not one.member.is_buffer]
    return [*_on_frozen(decisions), *_on_adapters(decisions), *_on_norms(decisions)]


def some(names: Sequence[str], noun: str = "") -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    rest = len(names) - _SHOWN
    text = f"{shown} and {rest} more" if rest > 0 else shown
    return f"{noun} {text}" if noun else text


def singles_out(one: Decision, wide: Collection[int]) -> bool:
    """Whether the rule is for such parameters alone; `wide` has the rules that are not."""
    where = getattr(one.origin, "where", None)
    return where == one.member.name or (id(one.origin) not in wide and not _is_for_all(where))


def _on_frozen(decisions: Sequence[Decision]) -> Iterator[str]:
    names = list(_unnamed(decisions, lambda member: not member.tensor.requires_grad))
    if names:
        yield (
            f"the plan draws {some(names)} at random, frozen in the model (requires_grad=False); "
            f"ict.rule({names[0]!r}, ict.keep) leaves what is there, and a rule of your own that "
            "names it draws it without this warning"
        )


def _on_adapters(decisions: Sequence[Decision]) -> Iterator[str]:
    names = list(_unnamed(decisions, lambda member: bool(_adapter(member))))
    if names:
        own = next(_adapter(one.member) for one in decisions if one.member.name == names[0])
        yield (
            f"the plan draws {some(names)} at random, of adapters that their own code initializes "
            f"({own}), parts of them with zeros; ict.record draws them as that code does, "
            f"ict.rule({names[0]!r}, ict.keep) leaves what is there, and a rule of your own that "
            "names it draws it without this warning"
        )


def _on_norms(decisions: Sequence[Decision]) -> Iterator[str]:
    # torch's defaults are right for torch's norms.
    by_rules = [one for one in decisions if one.origin is not None]
    wide = {id(one.origin) for one in by_rules if not _is_norm(type(one.member.owner))}
    names = [
        one.member.name
        for one in by_rules
        if is_random(one.tensor) and _is_norm_weight(one.member) and not _means_norm(one, wide)
    ]
    if names:
        yield (
            f"the plan draws {some(names)} at random, by a rule for other layers too, and "
            f"{'it is the weight of a norm' if len(names) == 1 else 'they are weights of norms'}, "
            f"which most models start at 1; ict.rule({names[0]!r}, ic.ones) before that rule does "
            "so, and a rule of your own that names it draws it without this warning"
        )


def builder_for(member: Member) -> str:
    """The builder that an error may suggest for a parameter; "" where it could only be a guess.

    Vectors are scales or shifts in nearly all models, and noise on them does harm.
    """
    kind = type(member.owner)
    ends_so = any(re.search(r"norm(\dd)?$", one.__name__.lower()) for one in kind.__mro__)
    if member.attribute in _SCALES and (issubclass(kind, _NORMS) or ends_so):
        return "ones"
    # A (1, n, 1, 1) scale is a vector too.
    if sum(size > 1 for size in member.shape) < 2:
        return "ones" if member.attribute in _SCALES else "zeros"
    return ""


def _unnamed(decisions: Sequence[Decision], is_doubtful: Callable[[Member], bool]) -> Iterator[str]:
    """Names of doubtful parameters, drawn at random, that no rule of the user singles out."""
    wide = {id(one.origin) for one in decisions if not is_doubtful(one.member)}
    for one in decisions:
        is_meant = isinstance(one.origin, Rule) and singles_out(one, wide)
        if is_random(one.tensor) and is_doubtful(one.member) and not is_meant:
            yield one.member.name


def _means_norm(one: Decision, wide: Collection[int]) -> bool:
    """Whether the rule is for norms, or has the norm's class among its types."""
    if isinstance(one.origin, Rule):
        where = one.origin.where
        kinds = () if isinstance(where, str | re.Pattern) else where
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        named = any(isinstance(one.member.owner, kind) and _is_norm(kind) for kind in kinds)
    else:
        named = any("norm" in kind.lower() for kind in getattr(one.origin, "types", ()))
    return named or singles_out(one, wide)


def _is_for_all(where: Any) -> bool:
    if isinstance(where, str):
        return not where.strip("*?.")
    if isinstance(where, re.Pattern):
        return where.pattern in (".*", ".+")
    return nn.Module in (where if isinstance(where, tuple) else (where,))


def _adapter(member: Member) -> str:
    """The class and method by which PEFT's layer initializes its adapter; "" for what is none."""
    for module in member.path:
        kind: Any = type(module)
        # What the adapter is for lies within it.
        if getattr(module, "base_layer", None) not in member.path and (way := _way(kind)):
            return f"{kind.__name__}.{way}"
    return ""


@lru_cache(maxsize=256)
def _way(kind: type) -> str:
    # reset_lora_parameters, reset_adapter_parameters, reset_vera_parameters, ...
    names = (name for name in dir(kind) if re.fullmatch(r"reset_\w+_parameters", name))
    own = (name for name in names if not str(getattr(kind, name).__module__).startswith("torch."))
    return next(own, "")


def _is_norm_weight(member: Member) -> bool:
    kind = type(member.owner)
    if member.attribute not in _SCALES or not _is_norm(kind):
        return False
    # By its name alone a class may as well be a layer with normalized weights, a matrix.
    return issubclass(kind, _NORMS) or len(member.shape) == 1


def _is_norm(kind: type[nn.Module]) -> bool:
    return issubclass(kind, _NORMS) or any("norm" in one.__name__.lower() for one in kind.__mro__)
