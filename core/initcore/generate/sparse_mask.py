"""The zeros of `sparse`: which elements of a matrix lie below the bound of their column.

An element's key is its mask word * 2^32 + its row, and it is zero where the key is less than its
column's bound (`initcore.generate.matrices.sparse_thresholds`). Words and bounds are compared by
their upper halves, 32 bits that hold nearly every answer; ties go by the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Windows: TypeAlias = Sequence[tuple[int, int, NDArray[np.uint64]]]
"""(first column, the one past the last, their bounds), of ranges that do not overlap."""

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def drop(
    bounds: Sequence[tuple[int, int]],
    windows: Windows,
    first: int,
    words: NDArray[np.uint32],
    out: NDArray[Any],
) -> None:
    """Sets the zeros among consecutive elements of a rectangle.

    Args:
        bounds: (start, stop) of the rectangle's rows and columns.
        windows: the bounds of all columns that hold the elements.
        first: row-major position of the first element in the rectangle.
        words: the elements' mask words.
        out: the elements.
    """
    (top, _), (left, right) = bounds
    width = right - left
    done = 0
    while done < len(out):
        row, inside = divmod(first + done, width)
        rows = (len(out) - done) // width
        if inside or not rows:
            rows, size = 1, min(width - inside, len(out) - done)
        else:
            size = width
        end = done + rows * size
        limits = _limits(windows, left + inside, left + inside + size)
        shape = rows, size
        _drop_rows(limits, top + row, words[done:end].reshape(shape), out[done:end].reshape(shape))
        done = end


def thresholds(words: NDArray[np.uint32], zeros: int) -> NDArray[np.uint64]:
    """The bound of each column below which `zeros` of its keys lie.

    Args:
        words: the mask words, of shape (rows, columns), with zeros < rows.
        zeros: how many elements of each column are zero.
    """
    columns = np.ascontiguousarray(words.T)
    # Keys are distinct, and the one of rank `zeros` is the smallest that is not zeroed.
    bound = np.partition(columns, zeros, axis=1)[:, zeros]
    equal = columns == bound[:, None]
    row = np.argmax(equal, axis=1)
    # Of equal words, smaller rows come first; rank `zeros` may be a later one.
    earlier = zeros - np.count_nonzero(columns < bound[:, None], axis=1)
    for column in np.flatnonzero(earlier):
        row[column] = np.flatnonzero(equal[column])[earlier[column]]
    found: NDArray[np.uint64] = (bound.astype(np.uint64) << _SHIFT) | row.astype(np.uint64)
    return found


def _limits(windows: Windows, left: int, right: int) -> NDArray[np.uint64]:
    """The bounds of a range of columns."""
    parts = [
        bounds[max(left, low) - low : min(right, high) - low]
        for low, high, bounds in sorted(windows, key=lambda window: window[0])
        if low < right and left < high
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _drop_rows(
    limits: NDArray[np.uint64], row: int, words: NDArray[np.uint32], out: NDArray[Any]
) -> None:
    upper = (limits >> _SHIFT).astype(np.uint32)
    np.copyto(out, 0, where=words < upper)
    # Few: most often one in a column. Of two dimensions at once they take four times as long.
    tied = np.divmod(np.flatnonzero(words == upper), words.shape[1])
    below = tied[0].astype(np.uint64) + np.uint64(row) < (limits & _LOW)[tied[1]]
    out[tied[0][below], tied[1][below]] = 0
