"""The zeros of `sparse` are those of the smallest keys of each column, ties included."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from initcore.generate.sparse_mask import drop, thresholds

# Words of two bits tie often; the greatest and the least are where a comparison may go wrong.
WORDS = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1])


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    words = draw(st.lists(WORDS, min_size=rows * columns, max_size=rows * columns))
    return np.array(words, dtype=np.uint32).reshape(rows, columns)


def keys(words: np.ndarray) -> np.ndarray:
    row = np.arange(len(words), dtype=np.uint64)[:, None]
    return (words.astype(np.uint64) << np.uint64(32)) | row


@given(words=matrices(), data=st.data())
def test_a_threshold_is_the_key_of_its_rank(words: np.ndarray, data: st.DataObject) -> None:
    zeros = data.draw(st.integers(0, len(words) - 1))
    assert thresholds(words, zeros).tolist() == np.sort(keys(words), axis=0)[zeros].tolist()


@given(words=matrices(), data=st.data())
def test_any_stretch_of_any_rectangle_has_the_zeros_of_the_whole(
    words: np.ndarray, data: st.DataObject
) -> None:
    rows, columns = words.shape
    limits = np.array(
        [data.draw(st.sampled_from([0, *keys(words)[:, c], 2**64 - 1])) for c in range(columns)],
        dtype=np.uint64,
    )
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    stop, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
    part = (slice(top, stop), slice(left, right))
    count = words[part].size
    first = data.draw(st.integers(0, count))
    last = data.draw(st.integers(first, count))
    cut = data.draw(st.integers(0, columns))
    windows = [(low, high, limits[low:high]) for low, high in ((cut, columns), (0, cut))]
    out = np.ones(last - first, dtype=np.uint16)
    drop(
        ((top, stop), (left, right)),
        windows,
        first,
        words[part].reshape(-1)[first:last].copy(),
        out,
    )
    whole = np.where(keys(words) < limits, 0, 1)[part].reshape(-1)
    assert out.tolist() == whole[first:last].tolist()
