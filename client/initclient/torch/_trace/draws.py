"""Draws: the laws of torch's random operations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
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


def as_drawn(law: Law, dtype: torch.dtype) -> Law:
    """The law of a draw, with what torch's draws of an element type are besides.

    torch draws a uniform in float32, in steps of 2^-24, or for float64 in steps of 2^-53. Draws of
    16 bits are rounded from float32, and what rounds up to the upper bound becomes the lower one
    (uniform_kernel in ATen/native/cpu/DistributionTemplates.h of torch 2.13). So bfloat16 has a 0
    once in 512 numbers of rand, and none between 1 - 2^-8 and 1.
    """
    if not isinstance(law, Uniform):
        return law
    if dtype == torch.float64:
        return replace(law, once_in=1 << 53)
    if dtype not in (torch.float16, torch.bfloat16):
        return law
    eps = torch.finfo(dtype).eps
    low, high = (float(torch.tensor(bound, dtype=dtype)) for bound in (law.a, law.b))
    above, below = _spacing(-low, eps), _spacing(high, eps)
    as_bound = (law.b - high + below / 2) + (low - law.a + above / 2)
    share = max(as_bound / (law.b - law.a), 2.0**-24)
    return replace(law, once_in=max(1, round(1 / share)), gaps=(above, below))


def _spacing(value: float, eps: float) -> float:
    """How far below a number the next one of its element type lies; 0 for 0."""
    if not value:
        return 0.0
    share, power = math.frexp(value)
    return math.ldexp(eps, power - 2 if share == 0.5 else power - 1)
