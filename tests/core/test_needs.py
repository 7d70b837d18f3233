"""A file says which matrices a range needs, and long matrices can be ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout, orthogonal, sparse
from initcore.backends import load
from initcore.generate import matrices
from initcore.generate.matrices import Matrix
from numpy.typing import NDArray

from tests import plans

NUMPY = load("numpy")
WIDE = Plan(
    {"s": sparse((7, 50), 0.4), "t": sparse((9, 40), 0.3), "q": orthogonal((6, 5))}, seed=4
).shard({"t": (slice(2, 8), slice(11, 37))})


class Given:
    """Holds what it was given and nothing else."""

    def __init__(self, needs: dict[Any, Matrix]) -> None:
        self._held = {key: matrix.make(None) for key, matrix in needs.items()}

    def get(self, matrix: Matrix) -> NDArray[Any]:
        return self._held[matrix.key]


@pytest.mark.parametrize("window", [1, 21, 1 << 24])
@pytest.mark.parametrize("plan", [WIDE, plans.every_scheme()], ids=["wide", "every scheme"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_range_needs_what_it_says_and_no_more(
    plan: Plan, window: int, data: st.DataObject
) -> None:
    file = VirtualFile(layout(plan), NUMPY)
    whole = file.read(0, file.size)
    offset = data.draw(st.integers(0, file.size))
    length = data.draw(st.integers(0, file.size - offset) | st.integers(0, 40))
    length = min(length, file.size - offset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrices, "_WINDOW", window)
        needs = file.needs(offset, length)
        part = file.with_cache(Given(needs)).read(offset, length)
    assert part == whole[offset : offset + length]


def test_a_wide_sparse_matrix_needs_only_the_columns_in_question() -> None:
    file = VirtualFile(layout(Plan({"s": sparse((1 << 15, 1 << 40), 0.5)})), NUMPY)
    needs = file.needs(file.size - 4, 4)
    assert sum(matrix.nbytes for matrix in needs.values()) < 1 << 20
    assert sum(matrix.draws for matrix in needs.values()) <= 1 << 24
    assert len(file.read(file.size - 4, 4)) == 4


@pytest.mark.parametrize("make", [lambda: orthogonal((300, 300)), lambda: sparse((300, 300), 0.5)])
def test_a_matrix_that_nobody_wants_any_more_is_not_finished(make: Any) -> None:
    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    file = VirtualFile(layout(Plan({"m": make()})), NUMPY)
    (matrix,) = file.needs(0, file.size).values()
    with pytest.raises(StoppedError):
        matrix.make(stop)
    assert np.array_equal(matrix.make(lambda: None), matrix.make(None))
