"""Section 10 of docs/stream-v1.md, "From X to Q", written from the page alone.

Slow and plain: matrices on a grid are Python integers with a known scale, so every product of
matrices is exact without an argument about its size. Floats appear only where the page has f64.
"""

import math
from operator import mul
from typing import TypeVar

BLOCK = 128
V_BITS = 21  # V is on the grid of 2^-21
Q_BITS = 30  # Q and W are on the grid of 2^-30

Integers = list[list[int]]
Reals = list[list[float]]
T = TypeVar("T")


def exponent(x: float) -> int:
    """E(x): the integer with 2^(E-1) <= x < 2^E."""
    return math.frexp(x)[1]


def grid(x: float, bits: int) -> int:
    """2^bits * rne(x, bits): scaling by a power of two is exact, round() has ties to even."""
    return round(math.ldexp(x, bits))


def coarser(x: int, shift: int) -> int:
    """x / 2^shift to the nearest integer, ties to even."""
    quotient, rest = x >> shift, x & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1 == 1))


def real(x: int, bits: int) -> float:
    """fl(x * 2^-bits): an int goes to f64 with one rounding, and the scaling is exact."""
    return math.ldexp(float(x), -bits)


def transposed(a: list[list[T]]) -> list[list[T]]:
    return [list(column) for column in zip(*a, strict=True)]


def times(a: Integers, b_columns: Integers) -> Integers:
    """The product of a, given as rows, and b, given as columns."""
    return [[sum(map(mul, row, column)) for column in b_columns] for row in a]


def tree(a: list[float]) -> float:
    """Step 7."""
    a, c = list(a), len(a)
    while c > 1:
        h = c // 2
        for i in range(h):
            a[i] = a[i] + a[c - h + i]
        c -= h
    return a[0]


def reflection(x: list[float], j: int, last: bool) -> tuple[list[int], int]:
    """Steps 1 to 3: v in units of 2^-21, and d."""
    xi = [grid(value, 18) if i >= j else 0 for i, value in enumerate(x)]
    total = sum(value * value for value in xi)
    norm = math.sqrt(float(total))
    s = -1 if xi[j] < 0 else 1
    if last:
        return [0] * len(xi), s
    if total == 0:
        return [0] * len(xi), 1
    u = [float(value) for value in xi]
    u[j] = xi[j] + s * norm
    return [grid(value, V_BITS - exponent(norm)) for value in u], -s


def triangle(g: Reals) -> Reals:
    """Steps 5 and 6: T from G."""
    k = len(g)
    tau = [2 / g[i][i] if g[i][i] else 0.0 for i in range(k)]
    m = [[tau[i] * value for value in g[i]] for i in range(k)]
    t = [[0.0] * k for _ in range(k)]
    for j in range(k):
        u = [0.0] * k  # column j of U
        u[j] = 1.0
        for i in range(j - 1, -1, -1):
            h = 0.0
            for el in range(j, i, -1):
                h = h - m[i][el] * u[el]
            u[i] = h
        for i in range(j + 1):
            t[i][j] = u[i] * tau[j]
    return t


def apply_block(columns: Integers, q: Integers) -> Integers:
    """Steps 4 to 12: columns are those of V in units of 2^-21, q is Q in units of 2^-30."""
    g = times(columns, columns)  # units of 2^-42
    largest = max(sum(map(abs, row)) for row in g)
    if largest == 0:
        return q
    t = triangle([[real(value, 2 * V_BITS) for value in row] for row in g])

    # 7, 8
    size = math.sqrt(max(tree([value * value for value in row]) for row in t))
    bound = ((1.25 * math.sqrt(real(largest, 2 * V_BITS))) * (size + 2.0**-6)) * 1.0625
    a = 23 - exponent(bound)
    # T1 + T2 in units of 2^-(a + 15). The difference T - T1 is exact in f64: T1 is 0 or within a
    # factor of two of T, or it is T without its low bits.
    t12 = []
    for row in t:
        t1 = [grid(value, a) for value in row]
        t2 = [grid(value - math.ldexp(v1, -a), a + 15) for value, v1 in zip(row, t1, strict=True)]
        t12.append([(v1 << 15) + v2 for v1, v2 in zip(t1, t2, strict=True)])

    # 9, 10: T1 W + T2 W = (T1 + T2) W, rounded once.
    q_columns = transposed(q)
    w = [[coarser(value, V_BITS) for value in row] for row in times(columns, q_columns)]
    y = [[real(value, a + 15 + Q_BITS) for value in row] for row in times(t12, transposed(w))]

    # 11
    squares = [[math.ldexp(value, Q_BITS) ** 2 for value in column] for column in transposed(y)]
    c = math.ldexp(math.sqrt(max(tree(column) for column in squares)), -Q_BITS)
    rows = transposed(columns)
    r = math.sqrt(real(max(sum(map(mul, row, row)) for row in rows), 2 * V_BITS))
    bound = (r * (c + 2.0**-16)) * 1.0625
    grid_y = min(31, 32 - exponent(bound))
    rounded = [[grid(value, grid_y) for value in column] for column in transposed(y)]

    # 12, in units of 2^-(30 + shift) before the rounding
    shift = V_BITS + grid_y - Q_BITS
    vy = times(rows, rounded)
    return [
        [coarser((old << shift) - change, shift) for old, change in zip(*pair, strict=True)]
        for pair in zip(q, vy, strict=True)
    ]


def haar(x: Reals, m: int, n: int) -> Reals:
    """Q, m x n, from X, n x m."""
    q = [[0] * n for _ in range(m)]
    signs = [1] * n
    for j0 in reversed(range(0, n, BLOCK)):
        k = min(j0 + BLOCK, n) - j0
        columns = []
        for j in range(k):
            v, signs[j0 + j] = reflection(x[j0 + j][j0:], j, j0 + j == m - 1)
            columns.append(v)
            q[j0 + j][j0 + j] = 1 << Q_BITS
        part = apply_block(columns, [row[j0:] for row in q[j0:]])
        for i, row in enumerate(part):
            q[j0 + i][j0:] = row
    return [
        [real(value * sign, Q_BITS) for value, sign in zip(row, signs, strict=True)] for row in q
    ]
