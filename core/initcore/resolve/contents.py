"""Contents of resolved tensors: a draw, a constant, a pattern, a matrix, parts or a checkpoint.

`initcore.resolve.resolution` makes these values, and `initcore.generate.generation` computes the
elements from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from initcore.stream import NormalDraw, TruncNormalDraw, UniformDraw


@dataclass(frozen=True)
class Sampled:
    """Independent samples: element i uses word i of the tensor's stream."""

    draw: UniformDraw | NormalDraw | TruncNormalDraw


@dataclass(frozen=True)
class Constant:
    """Every element holds these little-endian bytes."""

    pattern: bytes


@dataclass(frozen=True)
class Lattice:
    """A pattern at equal distances, zeros elsewhere.

    The elements at first + k * step, for k within [0, count), of each of `blocks` parts of
    `block` elements hold the bytes `pattern`; the positions are row-major and global.
    """

    pattern: bytes
    first: int
    step: int
    count: int
    block: int
    blocks: int


@dataclass(frozen=True)
class Orthogonal:
    """gain times orthonormal columns (rows >= columns) or rows, of the flattened tensor."""

    rows: int
    columns: int
    gain: float


@dataclass(frozen=True)
class DeltaOrthogonal:
    """Zeros except for the centre tap, which is gain times a matrix with orthonormal columns.

    The matrix has shape (outputs, inputs), outputs >= inputs. Its element [o, i] is the tensor's
    [o, i, centre] in torch's layout, and [centre, i, o] in JAX's.
    """

    outputs: int
    inputs: int
    taps: int
    centre: int
    layout: str
    gain: float


@dataclass(frozen=True)
class Hadamard:
    """Zeros except for the centre tap, where element [o, i] is +c or -c.

    It is -c where o & i has an odd number of one bits: the first rows and columns of Sylvester's
    matrix. `positive` and `negative` are the bytes of +c and -c.
    """

    outputs: int
    inputs: int
    taps: int
    centre: int
    positive: bytes
    negative: bytes


@dataclass(frozen=True)
class Sparse:
    """normal samples with the `zeros` smallest mask words of each column set to zero."""

    rows: int
    columns: int
    zeros: int
    draw: NormalDraw


@dataclass(frozen=True)
class Composed:
    """The elements of other tensors (`initcore.resolve.composition`).

    `axis` is that of `concatenate` and `stack`, `axes` those of `permute`.
    """

    scheme: str
    axis: int
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Pretrained:
    """The values of the tensor `source` in the file `checkpoint`.

    `sha256` is the SHA-256 that the file must have; "" accepts any file.
    """

    checkpoint: str
    source: str
    sha256: str


@dataclass(frozen=True)
class LiteralValues:
    """The elements, in order, as little-endian bytes."""

    pattern: bytes


@dataclass(frozen=True)
class Applied:
    """A function of each element of the one part, whose element type is F64.

    `a` and `b` are the numbers of `add`, `multiply` and `clamp`.
    """

    function: str
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Norm:
    """The Euclidean norm of the one part over all dimensions but `axes`, which ascend."""

    axes: tuple[int, ...]


Content: TypeAlias = (
    Sampled
    | Constant
    | Lattice
    | Orthogonal
    | DeltaOrthogonal
    | Hadamard
    | Sparse
    | Composed
    | Pretrained
    | LiteralValues
    | Applied
    | Norm
)
