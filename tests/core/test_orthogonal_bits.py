"""Orthogonal matrices: the same bits everywhere, Haar's distribution, no input that breaks them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from initcore.generate import haar
from initcore.generate.haar import haar_columns
from numpy.typing import NDArray

from tests.native_targets import NAMES, target

SHAPES = [(1, 1), (2, 1), (2, 2), (3, 3), (127, 127), (128, 128), (130, 129), (300, 40), (2000, 16)]
"""(rows, columns) of the result: around the block of 128, square, tall."""


def normals(rows: int, columns: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(1000 * rows + columns)
    return generator.standard_normal((columns, rows), dtype=np.float32)


def lattice(rows: int, columns: int) -> NDArray[np.float32]:
    """Irregular numbers in [-2, 2) made of integers alone, so the same on every platform."""
    i, j = np.indices((columns, rows), dtype=np.int64) + 1
    integers: NDArray[np.int64] = (i * i * 7919 + j * j * j * 104729 + i * j * 31) % 65536 - 32768
    return (integers / 2**14).astype(np.float32)


def digest(matrix: NDArray[np.float64]) -> str:
    return hashlib.sha256(matrix.tobytes()).hexdigest()


def orthogonality_error(q: NDArray[np.float64]) -> float:
    return float(np.abs(q.T @ q - np.eye(q.shape[1])).max())


PROGRAM = """
import hashlib, numpy
from initcore.generate.haar import haar_columns
digest = hashlib.sha256()
for rows, columns in ((1, 1), (130, 129), (700, 300), (3000, 20)):
    x = numpy.random.default_rng(rows).standard_normal((columns, rows), dtype=numpy.float32)
    digest.update(haar_columns(x).tobytes())
print(digest.hexdigest())
"""


def digest_elsewhere(**environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return result.stdout.strip()


MULTIPLICATION = """
import numpy
for size in (1, 130, 700, 3000):
    x = numpy.random.default_rng(size).standard_normal((size, 300))
    numpy.linalg.norm(x.T @ x) + numpy.linalg.norm(x.T @ x[:, 0])
"""


def works(**environment: str) -> bool:
    """Whether a product of matrices survives: some releases of OpenBLAS crash in a kernel."""
    result = subprocess.run(
        [sys.executable, "-c", MULTIPLICATION], env={**os.environ, **environment}, timeout=120
    )
    return result.returncode == 0


def test_bits_do_not_depend_on_the_blas_kernel_or_the_number_of_threads() -> None:
    kernels = [
        {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads}
        for kernel, threads in (("Haswell", "1"), ("Haswell", "2"), ("Prescott", "2"))
    ]
    usable = [kernel for kernel in kernels if works(**kernel)]
    # Threads can be set in any release.
    usable += [{"OPENBLAS_NUM_THREADS": threads} for threads in ("1", "2")]
    assert {digest_elsewhere(**kernel) for kernel in usable} == {digest_elsewhere()}


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (3, 3, "c878c435f05f3270fce989d387633cda7c13cd3046723456e45ec72a2dfd3c59"),
        (130, 129, "f935430268e97a8d9d19d73e989ce144ccfd6f064a3b2b97163eee9e7736dcb5"),
        (300, 260, "e2560ee273fcf60ae681ac8749a5f8f861d9bf00e3576dde34ecb2fc1267c408"),
    ],
)
def test_bits_are_those_of_the_contract(rows: int, columns: int, expected: str) -> None:
    assert digest(haar_columns(lattice(rows, columns))) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (130, 129), (700, 300), (900, 900)])
def test_each_target_of_the_native_library_gives_the_bits_of_numpy(
    rows: int, columns: int, name: str
) -> None:
    x = normals(rows, columns)
    subtract = target(name).subtract_rounded
    assert digest(haar_columns(x, subtract=subtract)) == digest(haar_columns(x))


def test_bits_do_not_depend_on_the_memory_layout_of_the_normals() -> None:
    x = normals(200, 150)
    assert digest(haar_columns(np.asfortranarray(x))) == digest(haar_columns(x))


def test_bits_do_not_depend_on_the_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normals(300, 260)
    expected = digest(haar_columns(x))
    monkeypatch.setattr(haar, "_PANEL_ROWS", 37)
    monkeypatch.setattr(haar, "_STRIP_ELEMENTS", 500)
    assert digest(haar_columns(x)) == expected


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_columns_are_orthonormal(rows: int, columns: int) -> None:
    q = haar_columns(normals(rows, columns))
    assert q.shape == (rows, columns)
    assert q.dtype == np.float64
    assert orthogonality_error(q) < 1e-7


def test_entries_lie_on_the_grid_and_no_zero_is_negative() -> None:
    q = haar_columns(normals(130, 129))
    assert np.array_equal(np.rint(q * 2.0**30), q * 2.0**30)
    for matrix in (haar_columns(np.zeros((4, 6), np.float32)), q):
        assert not np.signbit(matrix[matrix == 0.0]).any()


@pytest.mark.parametrize(("rows", "columns"), [*SHAPES, (500, 500)])
def test_matrix_is_the_q_of_a_gaussian_matrix_and_so_haar(rows: int, columns: int) -> None:
    """Column j of A is x_j, whole, through the reflections before it: rotations of independent
    normals, so A is Gaussian. Its QR meets these same reflections; with R's diagonal positive,
    its Q is Haar's (Mezzadri 2007, theorem 1) and must be ours, up to the grid of the vectors."""
    x = normals(rows, columns).astype(np.float64)
    gaussian = x.T.copy()
    for j in reversed(range(columns)):
        v = x[j] * (np.arange(rows) >= j)
        v[j] += np.copysign(np.linalg.norm(v), v[j])
        later = gaussian[:, j + 1 :]
        later -= np.outer(v, (2.0 / (v @ v)) * (v @ later))
    q, r = np.linalg.qr(gaussian)
    q *= np.copysign(1.0, np.diag(r))
    assert np.abs(haar_columns(normals(rows, columns)) - q).max() < 1e-5


def test_one_by_one_is_the_sign() -> None:
    assert haar_columns(np.array([[0.5]], np.float32)).tolist() == [[1.0]]
    assert haar_columns(np.array([[-0.5]], np.float32)).tolist() == [[-1.0]]


def test_normals_left_of_the_diagonal_are_not_used() -> None:
    x = normals(140, 140)
    spoiled = np.where(np.tri(140, k=-1, dtype=np.bool_), np.float32(np.nan), x)
    assert digest(haar_columns(spoiled)) == digest(haar_columns(x))


def degenerate() -> dict[str, NDArray[np.float32]]:
    x = normals(300, 256)
    some_zero = x.copy()
    some_zero[[0, 7, 128, 255]] = 0.0
    last_only = np.zeros_like(x)
    last_only[:, -1] = 6.59
    return {
        "all zero": np.zeros_like(x),
        "some zero": some_zero,
        "smaller than the grid": x * np.float32(1e-30),
        "tiny": x * np.float32(1e-5),
        "one vector again and again": np.broadcast_to(x[0], x.shape),
        "largest, of either sign": np.where(x < 0, np.float32(-6.59), np.float32(6.59)),
        "all the same": np.full_like(x, 6.59),
        "only on the diagonal": np.eye(256, 300, dtype=np.float32) * np.float32(-6.59),
        "only in the last entry": last_only,
    }


@pytest.mark.parametrize("name", degenerate())
def test_degenerate_vectors_still_give_orthonormal_columns(name: str) -> None:
    assert orthogonality_error(haar_columns(degenerate()[name])) < 1e-7


def test_no_vector_leaves_the_identity() -> None:
    assert np.array_equal(haar_columns(np.zeros((4, 6), np.float32)), np.eye(6, 4))
    assert haar_columns(np.zeros((0, 6), np.float32)).shape == (6, 0)


@pytest.mark.parametrize("value", [6.61, -7.0, np.inf, np.nan])
def test_a_normal_beyond_the_proof_is_refused(value: float) -> None:
    x = normals(5, 4)
    x[1, 3] = value
    with pytest.raises(ArithmeticError, match=r"magnitude of 6\.6"):
        haar_columns(x)


def test_columns_that_may_outgrow_the_proof_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haar, "STRETCH_LIMIT", 1.0)
    with pytest.raises(ArithmeticError, match="may have grown"):
        haar_columns(normals(5, 4))


def test_wrong_shapes_and_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least as many columns"):
        haar_columns(normals(3, 4))
    with pytest.raises(ValueError, match="1-D float32"):
        haar_columns(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="float64 given"):
        haar_columns(np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 2097152"):
        haar_columns(np.broadcast_to(np.float32(1), (1, haar.ROW_LIMIT + 1)))
