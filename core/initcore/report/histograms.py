"""Histograms whose edges lie halfway between the values that a narrow element type has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.dtypes import DTYPES
from initcore.report.densities import Ideal, Reals

# Differences of two values up to here are doubles.
_FURTHEST = np.finfo(np.float64).max / 4


@dataclass(frozen=True)
class Histogram:
    """The density of samples.

    Attributes:
        edges: edges of the bins, one more than there are bins.
        density: for each bin, its share of all samples divided by its width. Samples in `atoms`
            or beyond the edges are in no bin.
        outside: share of samples beyond the edges.
        atoms: single values and their shares of the samples, which no bin counts.
    """

    edges: Reals
    density: Reals
    outside: float
    atoms: tuple[tuple[float, float], ...]


def histogram(values: Reals, dtype: str, ideal: Ideal | None, bins: int) -> Histogram:
    """The histogram of samples, over the range where their ideal density matters.

    Args:
        values: the samples.
        dtype: name of their element type.
        ideal: their distribution, if it is known; its single values are counted apart.
        bins: how many bins; fewer where the element type has too few values.
    """
    atoms = []
    rest = values
    for value, _ in ideal.atoms if ideal else ():
        at = rest == float(np.asarray(value).astype(DTYPES[dtype].numpy))
        atoms.append((value, float(at.sum()) / max(len(values), 1)))
        rest = rest[~at]
    low, high = np.clip(ideal.bounds if ideal else _bounds(rest), -_FURTHEST, _FURTHEST).tolist()
    edges = _edges(low, high, dtype, bins)
    counts, _ = np.histogram(rest, edges)
    total = max(len(values), 1)
    density = counts / np.diff(edges) / total
    outside = (len(rest) - int(counts.sum())) / total
    return Histogram(edges, density, outside, tuple(atoms))


def _bounds(values: Reals) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    finite = finite[abs(finite) <= _FURTHEST]
    if not len(finite):
        return -_FURTHEST, _FURTHEST
    low, high = np.quantile(finite, [0.0005, 0.9995])
    room = 0.1 * (high - low) or max(abs(low), 1.0) * 0.5
    return float(low - room), float(high + room)


def _edges(low: float, high: float, dtype: str, bins: int) -> Reals:
    even = np.linspace(low, high, bins + 1)
    if DTYPES[dtype].itemsize > 2:
        return even
    # Edges halfway between representable values: a bin with one value more than its neighbours
    # would stand out.
    grid = _grid(dtype)
    right = np.clip(np.searchsorted(grid, even), 1, len(grid) - 1)
    edges = (grid[right - 1] + grid[right]) / 2
    # Samples that were rounded to the ends belong to the outermost bins.
    if edges[0] > low and right[0] > 1:
        edges[0] = (grid[right[0] - 2] + grid[right[0] - 1]) / 2
    if edges[-1] < high and right[-1] < len(grid) - 1:
        edges[-1] = (grid[right[-1]] + grid[right[-1] + 1]) / 2
    return np.unique(edges)


@cache
def _grid(dtype: str) -> Reals:
    """The finite values of a narrow element type, ascending."""
    kind = DTYPES[dtype]
    patterns: NDArray[Any] = np.arange(256**kind.itemsize, dtype=kind.storage)
    with np.errstate(invalid="ignore"):
        values = patterns.view(kind.numpy).astype(np.float64)
    return np.unique(values[np.isfinite(values)])
