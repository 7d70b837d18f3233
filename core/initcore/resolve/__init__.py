"""From a plan to the content of each tensor: defaults, fans, gains, bounds, composition.

Not here: the elements themselves (`generate`).
"""

from initcore.resolve.composition import MAX_DEPTH, Box, boxes, reshaped, shares
from initcore.resolve.contents import (
    Applied,
    Composed,
    Constant,
    DeltaOrthogonal,
    Hadamard,
    Lattice,
    LiteralValues,
    Norm,
    Orthogonal,
    Pretrained,
    Sampled,
    Sparse,
)
from initcore.resolve.distributions import LARGEST_Z
from initcore.resolve.formulas import TRUNCATED_STD
from initcore.resolve.kinds import MAX_MATRIX_ELEMENTS
from initcore.resolve.resolution import Resolved, resolve

__all__ = [
    "LARGEST_Z",
    "MAX_DEPTH",
    "MAX_MATRIX_ELEMENTS",
    "TRUNCATED_STD",
    "Applied",
    "Box",
    "Composed",
    "Constant",
    "DeltaOrthogonal",
    "Hadamard",
    "Lattice",
    "LiteralValues",
    "Norm",
    "Orthogonal",
    "Pretrained",
    "Resolved",
    "Sampled",
    "Sparse",
    "boxes",
    "reshaped",
    "resolve",
    "shares",
]
