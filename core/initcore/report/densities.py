"""Ideal distributions: the density that a tensor's elements were drawn from.

For figures, not for bits, so library transcendentals are allowed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from initcore.resolve import (
    Composed,
    Constant,
    DeltaOrthogonal,
    Orthogonal,
    Resolved,
    Sampled,
    Sparse,
)
from initcore.stream import NormalDraw, TruncNormalDraw, UniformDraw

Reals: TypeAlias = NDArray[np.float64]

# 100,000 samples of a normal have hardly any beyond so many standard deviations.
_REACH = 4.5


@dataclass(frozen=True)
class Piece:
    """A part of the elements with a density of their own.

    Attributes:
        weight: the part's share of the elements.
        density: the density at given values; zero outside [low, high].
        low: lower end of the range to draw.
        high: upper end of it.
        mean: its mean.
        variance: its variance.
        name: the distribution in a few words.
    """

    weight: float
    density: Callable[[Reals], Reals]
    low: float
    high: float
    mean: float
    variance: float
    name: str


@dataclass(frozen=True)
class Ideal:
    """The distribution of a tensor's elements: pieces with a density, and single values.

    Attributes:
        pieces: the parts that have a density.
        atoms: single values with their share of the elements.
    """

    pieces: tuple[Piece, ...]
    atoms: tuple[tuple[float, float], ...] = ()

    def density(self, values: Reals) -> Reals:
        """The density of everything but the single values, at these values."""
        total = np.zeros_like(values)
        for piece in self.pieces:
            total += piece.weight * piece.density(values)
        return total

    @property
    def bounds(self) -> tuple[float, float]:
        """The range to draw."""
        return min(p.low for p in self.pieces), max(p.high for p in self.pieces)

    @property
    def mean(self) -> float:
        """The mean of all elements."""
        return sum(p.weight * p.mean for p in self.pieces) + sum(v * w for v, w in self.atoms)

    @property
    def std(self) -> float:
        """The standard deviation of all elements, after any truncation."""
        squares = sum(p.weight * (p.variance + p.mean**2) for p in self.pieces)
        squares += sum(w * v**2 for v, w in self.atoms)
        return math.sqrt(max(squares - self.mean**2, 0.0))

    @property
    def name(self) -> str:
        """The distribution in a few words."""
        names = list(dict.fromkeys(piece.name for piece in self.pieces))
        return names[0] if len(names) == 1 else f"mixture of {len(names)} distributions"


def ideal_of(tensor: Resolved) -> Ideal | None:
    """The distribution of a tensor's elements; None where it is not known or has no density."""
    found = _mixture(tensor)
    if found is None or not found.pieces:
        return None
    return found


def _mixture(tensor: Resolved) -> Ideal | None:
    content = tensor.content
    found: Ideal | None = None
    if isinstance(content, Composed):
        found = _weighted([(_mixture(part), math.prod(part.shape)) for part in tensor.parts])
    elif isinstance(content, Constant) and tensor.parameters.low is not None:
        found = Ideal((), ((float(tensor.parameters.low), 1.0),))
    elif isinstance(content, Sampled):
        found = _drawn(content.draw)
    elif isinstance(content, Sparse):
        kept = 1.0 - content.zeros / max(content.rows, 1)
        found = _thinned(_drawn(content.draw), kept)
    elif isinstance(content, Orthogonal):
        found = _haar(max(content.rows, content.columns), abs(content.gain))
    elif isinstance(content, DeltaOrthogonal):
        found = _thinned(_haar(content.outputs, abs(content.gain)), 1.0 / content.taps)
    if found is not None and tensor.zero_rows and tensor.shape[0]:
        found = _thinned(found, 1.0 - len(tensor.zero_rows) / tensor.shape[0])
    return found


def _weighted(parts: Iterable[tuple[Ideal | None, int]]) -> Ideal | None:
    known = [(ideal, count) for ideal, count in parts if count]
    total = sum(count for _, count in known)
    pieces: dict[tuple[str, float, float], Piece] = {}
    atoms: dict[float, float] = {}
    for ideal, count in known:
        if ideal is None:
            return None
        for piece in ideal.pieces:
            key = (piece.name, piece.low, piece.high)
            before = pieces[key].weight if key in pieces else 0.0
            pieces[key] = replace(piece, weight=before + piece.weight * count / total)
        for value, share in ideal.atoms:
            atoms[value] = atoms.get(value, 0.0) + share * count / total
    return Ideal(tuple(pieces.values()), tuple(atoms.items()))


def _thinned(ideal: Ideal | None, kept: float) -> Ideal | None:
    """The same with a share of the elements set to zero."""
    if ideal is None:
        return None
    pieces = tuple(replace(piece, weight=piece.weight * kept) for piece in ideal.pieces)
    atoms = {value: share * kept for value, share in ideal.atoms}
    atoms[0.0] = atoms.get(0.0, 0.0) + 1.0 - kept
    return Ideal(
        tuple(piece for piece in pieces if piece.weight > 0.0),
        tuple((value, share) for value, share in atoms.items() if share > 0.0),
    )


def _drawn(draw: UniformDraw | NormalDraw | TruncNormalDraw) -> Ideal:
    if isinstance(draw, UniformDraw):
        return _uniform(draw.low, draw.mid + draw.half)
    if draw.std == 0.0:
        return Ideal((), ((draw.mean, 1.0),))
    if isinstance(draw, NormalDraw):
        return _truncated(draw.mean, draw.std, -math.inf, math.inf)
    return _truncated(draw.mean, draw.std, draw.low, draw.high)


def _uniform(low: float, high: float) -> Ideal:
    if high <= low:
        return Ideal((), ((low, 1.0),))

    def density(values: Reals) -> Reals:
        return np.where((values >= low) & (values <= high), 1.0 / (high - low), 0.0)

    variance = (high - low) ** 2 / 12.0
    name = f"uniform on [{low:.4g}, {high:.4g})"
    return Ideal((Piece(1.0, density, low, high, (low + high) / 2, variance, name),))


def _truncated(mean: float, std: float, low: float, high: float) -> Ideal:
    a, b = (low - mean) / std, (high - mean) / std
    mass = _cdf(b) - _cdf(a)
    pa, pb = _pdf(a), _pdf(b)
    # Johnson, Kotz and Balakrishnan 1994, Continuous univariate distributions, 13.10.
    shift = (pa - pb) / mass
    edges = (a * pa if pa else 0.0) - (b * pb if pb else 0.0)

    def density(values: Reals) -> Reals:
        z = (values - mean) / std
        inside = (values >= low) & (values <= high)
        return np.where(inside, np.exp(-0.5 * z * z) / (std * mass * math.sqrt(2 * math.pi)), 0.0)

    name = f"normal(mean {mean:.4g}, std {std:.4g})"
    if a > -_REACH or b < _REACH:
        name += f" cut to [{low:.4g}, {high:.4g}]"
    piece = Piece(
        1.0,
        density,
        max(low, mean - _REACH * std),
        min(high, mean + _REACH * std),
        mean + std * shift,
        std * std * (1.0 + edges / mass - shift * shift),
        name,
    )
    return Ideal((piece,))


def _haar(n: int, gain: float) -> Ideal:
    """One element of a random orthogonal matrix of n rows, times gain.

    Its square over gain squared is Beta(1/2, (n - 1)/2): a coordinate of a random point on
    the sphere.
    """
    if n < 2 or gain == 0.0:
        return Ideal((), tuple({-gain: 0.5, gain: 0.5}.items()) if gain else ((0.0, 1.0),))
    scale = math.lgamma(n / 2) - math.lgamma((n - 1) / 2) - 0.5 * math.log(math.pi)

    def density(values: Reals) -> Reals:
        rest = 1.0 - np.square(values / gain)
        with np.errstate(divide="ignore", invalid="ignore"):
            body = np.exp(scale + 0.5 * (n - 3) * np.log(rest)) / gain
        return np.where(rest > 0.0, body, 0.0)

    reach = min(gain, _REACH * gain / math.sqrt(n))
    name = f"coordinate of a random orthogonal matrix of {n} rows"
    if gain != 1.0:
        name += f", times {gain:.4g}"
    return Ideal((Piece(1.0, density, -reach, reach, 0.0, gain * gain / n, name),))


def _pdf(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) if math.isfinite(z) else 0.0


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
