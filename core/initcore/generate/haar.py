"""Haar-distributed orthonormal columns, the same bits on every machine.

For the scheme `orthogonal`: turns standard normals into a matrix with orthonormal columns. Which
normals, torch's flattening and transposition, the gain and the dtype are left to the caller.

Method. Stewart's product of Householder reflections, H_1 ... H_n applied to the identity and each
column multiplied by the sign of Mezzadri's correction, in blocks of 128 reflections
I - V T V' (compact WY), from the last block to the first. Nothing is factorized.

Why the bits cannot change. A product of matrices gives the same bits for every order of summation,
blocking, thread count and fused multiply-add if each partial sum is representable. If the left
factor has entries on a grid of 2^-a and the right one on 2^-b, all partial sums of a row times a
column are multiples of 2^-(a+b), at most |row| |column| (Cauchy-Schwarz, any subset of the terms,
any signs); below 2^(53-a-b) float64 holds them all. (Strassen's algorithm is no such order.)

    V  on 2^-21, columns of norm <= 2.001 (scaled by a power of two, rounded)
    Q  on 2^-30, columns of norm <= STRETCH_LIMIT = 1.25, proven at run time by `_stretch`
    V'V             2.001 * 2.001  < 2^(53-42)                    exact
    V'Q             2.001 * 1.25   < 2^(53-51)                    exact, then W rounded to 2^-30
    T1 W, T2 W      T = T1 + T2 on grids 2^-a and 2^-(a+15); a from |rows of T| sqrt(|V'V|) 1.25
    V Y             Y = T1 W + T2 W rounded to 2^-g; g from |rows of V| |columns of Y|
    Q - V Y         below 2 on 2^-(21+g), g <= 31                 exact, then rounded to 2^-30

Everything else is elementwise IEEE float64 in a fixed order (`_tree_sum`, `_inverse_factor`), a sum
that is exact in any order, or a comparison. A bound that fails raises ArithmeticError. Rounding V
costs no accuracy: a reflection is orthogonal whatever its vector.

Sources: Stewart 1980, The efficient generation of random orthogonal matrices, SIAM J. Numer. Anal.
17; Schreiber & Van Loan 1989, A storage-efficient WY representation, SIAM J. Sci. Stat. Comput. 10;
Mezzadri 2007, How to generate random matrices from the classical compact groups, Notices AMS 54.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Subtract = Callable[[Matrix, Matrix], None]

BLOCK: Final = 128
"""Reflections in a block. Part of the bit contract."""

ROW_LIMIT: Final = 1 << 21
"""Rows for which a squared norm fits int64 and rounding V cannot lengthen it past 2.001."""

NORMAL_LIMIT: Final = 6.6
"""No standard normal of the stream reaches this magnitude."""

STRETCH_LIMIT: Final = 1.25
"""Longest column of Q for which the proof holds."""

_NORMAL_BITS: Final = 18  # grid of the normals: integers of 2^-18
_V_BITS: Final = 21
_Q_BITS: Final = 30
_T_STEP: Final = 15  # T2's grid is this many bits finer than T1's
_SLACK: Final = 1.0625  # covers the rounding errors of the bounds themselves
_EXACT_ADDENDS: Final = 2048  # (6.6 * 2^18)^2 * 2048 < 2^53

_PANEL_ROWS: Final = 256  # rows of V Y computed at once; this and the next are for speed only
_STRIP_ELEMENTS: Final = 1 << 15  # elements subtracted and rounded while they are in cache


def haar_columns(
    normals: NDArray[np.float32],
    pulse: Callable[[], None] | None = None,
    subtract: Subtract | None = None,
) -> Matrix:
    """An m x n float64 matrix, m >= n, with orthonormal columns and Haar's distribution.

    Row j of `normals`, float32 of shape (n, m), holds the vector of reflection j: independent
    standard normals, of which the entries j.. are used. Entries of the result are multiples of
    2^-30, never -0, and max |Q'Q - I| is about 1e-8. The same normals give the same bits on every
    machine.

    `pulse` is called before each block of 128 reflections; what it raises ends the work.
    `subtract` is `RoundingBackend.subtract_rounded` of a backend; None means NumPy's way.

    Raises ValueError for a wrong shape or dtype, and ArithmeticError where a bound of the proof
    fails, which no sample of standard normals does.
    """
    _check_shape(normals)
    n, m = normals.shape
    q = np.zeros((m, n))  # in units of 2^-30: integers throughout
    signs = np.empty(n)
    stretch = 1.0
    for first in reversed(range(0, n, BLOCK)):
        if pulse:
            pulse()
        last = min(first + BLOCK, n)
        v, signs[first:last] = _reflectors(normals[first:last, first:])
        stretch = _apply_block(v, q[first:, first:], stretch, subtract or _subtract_rounded)
    q *= signs * 2.0**-_Q_BITS
    q += 0.0  # the sign of a zero may depend on the order of a sum: -0 becomes +0
    _check_columns(q)
    return q


def _check_shape(normals: NDArray[np.float32]) -> None:
    if normals.dtype != np.float32 or normals.ndim != 2:
        raise ValueError(
            f"normals: {normals.ndim}-D {normals.dtype} given, a 2-D float32 array is needed"
        )
    n, m = normals.shape
    if n > m:
        raise ValueError(f"normals: shape ({n}, {m}) given, need at least as many columns as rows")
    if m > ROW_LIMIT:
        raise ValueError(f"normals: vectors of {m} entries given, at most {ROW_LIMIT} are possible")


def _check_columns(q: Matrix) -> None:
    """A guard against a BLAS that breaks the premises; its own rounding is far below 2^-20."""
    if q.size and not np.abs(np.einsum("ij,ij->j", q, q) - 1.0).max() < 2.0**-20:
        raise ArithmeticError("columns are not of unit length: the matrix products were not exact")


def _reflectors(x: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
    """Householder vectors (rows, on the grid 2^-21, zero left of the diagonal) and Haar's signs.

    A reflection that does nothing (a zero vector, or the last of a square matrix) is a zero row.
    """
    k, m = x.shape
    v = _fixed_point(x)
    norm = np.sqrt(_squared_norms(v).astype(np.float64))
    diagonal = np.arange(k)
    lead = v[diagonal, diagonal]
    sign = np.where(lead < 0.0, -1.0, 1.0)
    # v = x + sign(x_j) |x| e_j sends x to -sign(x_j) |x| e_j: without cancellation, and the
    # column's sign is the one that would make R's diagonal positive in a QR.
    signs = np.where(norm > 0.0, -sign, 1.0)
    v[diagonal, diagonal] = lead + sign * norm
    if m == k:  # in one dimension there is no direction to reflect in, only a sign
        v[-1, -1] = 0.0
        signs[-1] = sign[-1]
    # A power of two brings the norm of x into [0.5, 1), so that of v into [0.7, 2).
    v *= np.ldexp(1.0, _V_BITS - np.frexp(norm)[1])[:, None]
    np.rint(v, out=v)
    v *= 2.0**-_V_BITS
    return v, signs


def _fixed_point(x: NDArray[np.float32]) -> Matrix:
    """The normals as integers of 2^-18, with zeros left of the diagonal."""
    k = len(x)
    v = x.astype(np.float64)
    v[:, :k] = np.triu(v[:, :k])
    if not (v.max() < NORMAL_LIMIT and v.min() > -NORMAL_LIMIT):  # refuses NaN as well
        raise ArithmeticError(f"normals: a magnitude of {NORMAL_LIMIT} or more")
    v *= 2.0**_NORMAL_BITS
    return np.rint(v, out=v)


def _squared_norms(v: Matrix) -> NDArray[np.int64]:
    """Exact: float64 holds the sum of 2048 such squares in any order, int64 that of 2^21."""
    total = np.zeros(len(v), np.int64)
    for start in range(0, v.shape[1], _EXACT_ADDENDS):
        part = v[:, start : start + _EXACT_ADDENDS]
        total += np.einsum("ij,ij->i", part, part).astype(np.int64)
    return total


def _apply_block(v: Matrix, q: Matrix, stretch: float, subtract: Subtract) -> float:
    """Q <- round((I - V T V') Q) in place; returns the new bound on the length of Q's columns.

    The rows of `v` are the columns of V. The first k columns of `q` are still to be made: they and
    the first k rows are the identity's.
    """
    k, m = v.shape
    gram = v @ v.T
    size = float(np.abs(gram).sum(axis=1).max())  # at least the spectral norm of V'V; exact
    if size == 0.0:  # no reflection does anything
        np.fill_diagonal(q[:k, :k], 2.0**_Q_BITS)
        return stretch
    factor = _inverse_factor(gram)
    row_squares = _tree_sum(np.square(factor.T))
    slices, a = _slices(factor, math.sqrt(float(row_squares.max())), math.sqrt(size))

    y = _small_product(slices, _project(v, q))
    g = _snap_to_exact(y, v)
    np.fill_diagonal(q[:k, :k], 2.0**_Q_BITS)
    _subtract_product(q, v, y, subtract)

    trace = float(gram.trace())
    return _stretch(stretch, m, k, size, trace, math.sqrt(float(_tree_sum(row_squares))), a, g)


def _inverse_factor(gram: Matrix) -> Matrix:
    """T, upper triangular, with H_1 ... H_k = I - V T V': the inverse of diag(1/tau) + upper(V'V).

    With tau_i = 2 / (V'V)_ii, or 0 for a zero vector: T = (I + diag(tau) upper(V'V))^-1 diag(tau).
    Back substitution by rank-1 updates, elementwise: element (i, j) loses its terms in the order
    j, j-1, ..., i+1, each product and each difference rounded once.
    """
    k = len(gram)
    squares = gram.diagonal()
    tau = np.divide(2.0, squares, out=np.zeros(k), where=squares > 0.0)
    scaled = tau[:, None] * gram
    t = np.eye(k)
    for i in range(k - 1, 0, -1):
        t[:i, i:] -= scaled[:i, i, None] * t[i, i:]
    t *= tau
    return t


def _slices(factor: Matrix, longest_row: float, size_root: float) -> tuple[Matrix, int]:
    """T1 above T2 with T = T1 + T2 to 2^-(a+16), such that both products with W are exact.

    |W's columns| <= 1.25 sqrt(|V'V|). T2's entries are at most 2^-(a+1), so its rows at most
    sqrt(128) 2^-(a+1); with |V'V| <= 128 * 2.001^2 that leaves room for 15 bits always.
    """
    k = len(factor)
    bound = STRETCH_LIMIT * size_root * (longest_row + 2.0**-6) * _SLACK
    a = 53 - _Q_BITS - math.frexp(bound)[1]
    if a < 10:
        raise ArithmeticError(f"reflections too dependent: T's first slice has {a} bits, needs 10")
    slices = np.empty((2 * k, k))
    slices[:k] = factor
    _round_to_grid(slices[:k], a)
    np.subtract(factor, slices[:k], out=slices[k:])
    _round_to_grid(slices[k:], a + _T_STEP)
    return slices, a


def _project(v: Matrix, q: Matrix) -> Matrix:
    """W = V'Q, rounded to integers of 2^-30. Q's first k columns are the identity's."""
    k = len(v)
    w = np.empty((k, q.shape[1]))
    np.multiply(v[:, :k], 2.0**_Q_BITS, out=w[:, :k])
    np.matmul(v[:, k:], q[k:, k:], out=w[:, k:])
    return np.rint(w, out=w)


def _small_product(slices: Matrix, w: Matrix) -> Matrix:
    """Y = T1 W + T2 W: two exact products, one rounding."""
    k = len(w)
    both = slices @ w
    y = both[:k]
    y += both[k:]
    return y


def _snap_to_exact(y: Matrix, v: Matrix) -> int:
    """Round Y in place to the grid 2^-g, the finest up to 2^-31 that keeps V Y exact; returns g."""
    longest_column = math.sqrt(float(_tree_sum(np.square(y)).max())) * 2.0**-_Q_BITS
    longest_row = math.sqrt(float(np.einsum("ij,ij->j", v, v).max()))  # exact: on 2^-42, under 2^10
    bound = longest_row * (longest_column + 2.0**-16) * _SLACK
    g = min(31, 53 - _V_BITS - math.frexp(bound)[1])
    if g < 20:
        raise ArithmeticError(f"reflections too dependent: T V'Q has {g} bits, needs 20")
    _round_to_grid(y, g - _Q_BITS)
    return g


def _subtract_product(q: Matrix, v: Matrix, y: Matrix, subtract: Subtract) -> None:
    """Q <- round(Q - V Y) in place, a panel of rows at a time so that V Y is never whole."""
    m, n = q.shape
    buffer = np.empty((min(_PANEL_ROWS, m), n))
    for start in range(0, m, _PANEL_ROWS):
        panel = q[start : start + _PANEL_ROWS]
        product = np.matmul(v[:, start : start + _PANEL_ROWS].T, y, out=buffer[: len(panel)])
        subtract(panel, product)


def _subtract_rounded(whole: Matrix, product: Matrix) -> None:
    """See `initcore.backends.RoundingBackend.subtract_rounded`."""
    strip = max(1, _STRIP_ELEMENTS // whole.shape[1])
    for row in range(0, len(whole), strip):
        part = whole[row : row + strip]
        part -= product[row : row + strip]
        np.rint(part, out=part)


def _stretch(
    before: float, m: int, k: int, size: float, trace: float, t_norm: float, a: int, g: int
) -> float:
    """Bound on the length of Q's columns after a block; every term is twice what theory gives.

    `slip`: I - V T V' with T only nearly the inverse of M = diag(1/tau) + upper(V'V), where
    |M| <= sqrt(size * trace), |M T - I| <= 2^-45 |M| |T| + |M| k 2^-(a+16) in Frobenius norms.
    `noise`: the roundings of W, of Y and of Q.
    """
    slip = size * t_norm * math.sqrt(size * trace) * (2.0**-44 * t_norm + k * 2.0 ** -(a + _T_STEP))
    noise = math.sqrt(size * k) * (t_norm * 2.0**-_Q_BITS + 2.0**-g) + math.sqrt(m) * 2.0**-_Q_BITS
    after = before * (1.0 + slip) + noise
    if not after <= STRETCH_LIMIT:
        raise ArithmeticError(f"columns may have grown to {after}, the limit is {STRETCH_LIMIT}")
    return after


def _tree_sum(rows: Matrix) -> Matrix:
    """Sum over the first axis in a fixed order; overwrites `rows`."""
    count = len(rows)
    while count > 1:
        half = count // 2
        rows[:half] += rows[count - half : count]
        count -= half
    return rows[0]  # type: ignore[no-any-return]


def _round_to_grid(x: Matrix, bits: int) -> None:
    """Round in place to multiples of 2^-bits, half to even: adding 1.5 * 2^52 of them does."""
    shift = math.ldexp(1.5, 52 - bits)
    x += shift
    x -= shift
