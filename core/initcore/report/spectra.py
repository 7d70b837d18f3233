"""Singular values of small matrices, and what a random matrix of the same kind would have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initcore.report.densities import Reals, ideal_of
from initcore.resolve import DeltaOrthogonal, Orthogonal, Resolved, Sampled

_MAX_ELEMENTS = 1 << 20
_MAX_VALUES = 512


@dataclass(frozen=True)
class Spectrum:
    """Singular values in descending order.

    Attributes:
        values: the singular values of the tensor as a matrix.
        ideal: their limits for large matrices; None where these are not known.
        law: the source of `ideal`, in a few words.
    """

    values: Reals
    ideal: Reals | None
    law: str


def has_spectrum(tensor: Resolved) -> bool:
    """Whether a tensor is one matrix, not too large: two axes or more, whole, not stacked."""
    shape = tensor.shape
    return (
        len(shape) >= 2
        and tensor.is_whole
        and tensor.dtype.kind == "float"
        and 0 < math.prod(shape) <= _MAX_ELEMENTS
        and 2 <= min(matrix_shape(tensor)) <= _MAX_VALUES
        and not tensor.arguments.get("batch_axes")
        and not isinstance(tensor.content, DeltaOrthogonal)
        and tensor.scheme not in ("stack", "reshape", "permute")
    )


def matrix_shape(tensor: Resolved) -> tuple[int, int]:
    """Rows and columns: outputs and the rest in torch's layout, as `orthogonal` flattens."""
    shape = tensor.shape
    if tensor.arguments.get("layout") == "jax":
        return math.prod(shape[:-1]), shape[-1]
    return shape[0], math.prod(shape[1:])


def spectrum(tensor: Resolved, values: Reals) -> Spectrum:
    """The singular values of a tensor that has all these elements."""
    rows, columns = matrix_shape(tensor)
    matrix = values.reshape(rows, columns)
    # From the eigenvalues of the Gram matrix: several times as fast as an SVD, and precise enough
    # for a figure.
    squares = np.linalg.eigvalsh(matrix.T @ matrix if rows > columns else matrix @ matrix.T)
    found: Reals = np.sqrt(np.maximum(squares, 0.0))[::-1].astype(np.float64)
    content = tensor.content
    if isinstance(content, Orthogonal):
        return Spectrum(found, np.full(len(found), abs(content.gain)), f"{abs(content.gain):.4g}")
    ideal = ideal_of(tensor)
    if isinstance(content, Sampled) and ideal is not None and ideal.mean == 0.0:
        return Spectrum(found, ideal.std * marchenko_pastur(rows, columns), "Marchenko-Pastur")
    return Spectrum(found, None, "")


def marchenko_pastur(rows: int, columns: int) -> Reals:
    """Singular values of a matrix of independent elements of variance 1, descending.

    They are the quantiles of the limit law of Marchenko and Pastur 1967.
    """
    small, large = sorted((rows, columns))
    low, high = math.sqrt(large) - math.sqrt(small), math.sqrt(large) + math.sqrt(small)
    # Chebyshev's points: the density has square roots at both ends.
    angles = np.linspace(0.0, math.pi, 2001)
    points = (low + high) / 2 - (high - low) / 2 * np.cos(angles)
    inside = np.maximum((high**2 - points**2) * (points**2 - low**2), 0.0)
    density = np.sqrt(inside) / np.maximum(points, 1e-300)
    steps = np.diff(points) * (density[1:] + density[:-1]) / 2
    mass = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = (np.arange(small) + 0.5)[::-1] / small
    return np.interp(wanted, mass / mass[-1], points)
