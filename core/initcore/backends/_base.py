"""The interface of a backend.

To add one: write a class with `name` and `fill`, give it a line in
`initcore.backends.selection`, and run `tests/core/test_backends.py`, which compares every bit
with the NumPy reference. A backend has no other task than `fill`: shapes, slices, schemes,
fans and files are resolved before the call. One for which a call is dear beside the elements of a
small tensor may have `fill_pieces` too, one that computes functions of numbers `apply`, one that
subtracts matrices in one pass `subtract_rounded`, and one that sets memory faster than NumPy
`fill_constant`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from initcore.stream import Job, Pieces, Runs, Step


class Backend(Protocol):
    """Fills arrays with samples; every backend gives the same bits."""

    name: str

    def fill(self, job: Job, runs: Runs, out: NDArray[Any]) -> None:
        """Writes the samples at the positions of runs, in order, into out.

        Args:
            job: what to draw, from which stream, in which element type.
            runs: where in the global tensor; `runs.count` elements.
            out: contiguous, aligned, 1-D host array of `runs.count` elements whose type
                is `DTYPES[job.dtype].storage` (for 16- and 8-bit floats the bits, as
                unsigned integers).

        Safe to call from several threads at once.
        """
        ...


@runtime_checkable
class PiecesBackend(Backend, Protocol):
    """A backend that fills many small tensors in one call."""

    def fill_pieces(self, pieces: Sequence[Pieces]) -> None:
        """Writes the samples of each piece to its place, as `fill` would.

        Safe to call from several threads at once.
        """
        ...


@runtime_checkable
class FunctionsBackend(Backend, Protocol):
    """A backend that computes the functions of the scheme `apply`."""

    def apply(
        self, steps: Sequence[Step], values: NDArray[np.float64], dtype: str, out: NDArray[Any]
    ) -> None:
        """Writes functions of numbers into out, as `apply_steps` and `encode_doubles` make them.

        Args:
            steps: the functions, the innermost first.
            values: contiguous, aligned, 1-D; the numbers, in the domain of the first function.
            dtype: name of the element type of out, which is as for `fill`.
            out: as many elements.

        Safe to call from several threads at once.
        """
        ...


@runtime_checkable
class RoundingBackend(Backend, Protocol):
    """A backend that computes the rounded difference of two matrices, for `orthogonal`."""

    def subtract_rounded(self, whole: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """Subtracts a matrix from another one in place, and rounds to integers, half to even.

        Args:
            whole: float64; the elements of a row are contiguous.
            product: float64 of the same shape, contiguous. All differences are exact and below
                2^51. A difference that rounds to zero may have either sign.

        Safe to call from several threads at once.
        """
        ...


@runtime_checkable
class ConstantsBackend(Backend, Protocol):
    """A backend that writes one value everywhere."""

    def fill_constant(self, pattern: bytes, out: NDArray[Any]) -> None:
        """Writes a value into all elements.

        Args:
            pattern: the value's bits, in the machine's order of bytes.
            out: contiguous, aligned, 1-D host array; its elements have the pattern's size.

        Safe to call from several threads at once.
        """
        ...
