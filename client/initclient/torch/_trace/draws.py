"""Draws: the laws of torch's random operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from initclient._laws import Constant, Law, Normal, Other, Uniform


def is_random(function: Any) -> bool:
    """Whether an operation takes numbers from a generator."""
    return torch.Tag.nondeterministic_seeded in function.tags


def law_of(function: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Law:
    """The law of what a random operation draws.

    `Other` is a distribution that no scheme has. A normal distribution without spread, or a
    uniform one, is a constant.
    """
    name = str(function._schema.name).rpartition("::")[2]
    overload = str(function._overloadname)

    def argument(place: int, keyword: str, default: float) -> float:
        value = args[place] if len(args) > place else keywords.get(keyword, default)
        return float(value)

    if name in ("randn", "randn_like"):
        return Normal()
    if name in ("rand", "rand_like"):
        return Uniform()
    if name == "normal_":
        return normal(argument(1, "mean", 0.0), argument(2, "std", 1.0))
    if name in ("normal", "normal_functional") and overload in ("float_float", ""):
        return normal(argument(0, "mean", 0.0), argument(1, "std", 1.0))
    if name == "uniform_":
        return uniform(argument(1, "from", 0.0), argument(2, "to", 1.0))
    return Other(name.rstrip("_"))


def normal(mean: float, std: float) -> Law:
    """A normal law, or the constant that it is without spread."""
    return Normal(mean, std) if std else Constant(mean)


def uniform(a: float, b: float) -> Law:
    """A uniform law, or the constant that it is without spread."""
    return Uniform(a, b) if b > a else Constant(a)
