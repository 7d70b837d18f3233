"""A slice equals the slice of the whole, whatever the scheme, the element type and the cut."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout, normal, orthogonal, sparse
from initcore.backends import load
from initcore.generate import matrices
from initcore.generate.regions import Region
from initcore.resolve.contents import Sparse
from initcore.stream.draws import NormalDraw, Runs

from tests import plans


def arrays(plan: Plan, backend: str = "numpy") -> dict[str, np.ndarray]:
    laid_out = layout(plan)
    file = VirtualFile(laid_out, load(backend))
    return {entry.tensor.name: file.array(entry) for entry in laid_out.entries}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_slice_equals_the_slice_of_the_whole(data: st.DataObject) -> None:
    tensor = data.draw(plans.tensors())
    cut = data.draw(plans.cuts(tensor.shape))
    plan = Plan({"t": tensor}, data.draw(st.integers(0, 2**64 - 1)))
    whole = arrays(plan)["t"]
    part = arrays(plan.shard({"t": cut}))["t"]
    assert part.dtype == whole.dtype
    assert part.shape == whole[cut].shape
    assert part.tobytes() == whole[cut].tobytes()


@pytest.mark.parametrize("name", plans.CASES)
def test_shards_of_every_scheme_join_to_the_whole(name: str) -> None:
    plan = Plan({"t": plans.CASES[name]}, 7)
    whole = arrays(plan)["t"]
    for axis, size in enumerate(whole.shape):
        edges = [0, size // 3, size // 2, size]
        parts = []
        for start, stop in pairwise(edges):
            cut = [slice(None)] * whole.ndim
            cut[axis] = slice(start, stop)
            parts.append(arrays(plan.shard({"t": cut}))["t"])
        assert np.concatenate(parts, axis=axis).tobytes() == whole.tobytes()


def test_a_slice_of_a_huge_tensor_costs_only_its_own_elements() -> None:
    plan = Plan({"t": normal((2**30, 2**29), std=0.02)})
    rows = plan.shard({"t": (slice(2**29, 2**29 + 2), slice(5, 1005))})
    column = plan.shard({"t": (slice(0, 1000), slice(-1, None))})
    began = time.perf_counter()
    assert arrays(rows)["t"].shape == (2, 1000)
    assert arrays(column)["t"].shape == (1000, 1)
    assert time.perf_counter() - began < 5


def test_a_column_of_a_sparse_matrix_costs_its_column() -> None:
    plan = Plan({"t": sparse((1000, 2**40), 0.25)})
    part = arrays(plan.shard({"t": (slice(None), slice(2**39, 2**39 + 3))}))["t"]
    assert ((part == 0).sum(axis=0) == 250).all()


def test_tied_tensors_share_a_stream() -> None:
    plan = Plan({"head": normal((8, 4), stream="embed"), "embed": normal((8, 4))}, 3)
    values = arrays(plan)
    assert values["head"].tobytes() == values["embed"].tobytes()


def test_a_tensor_does_not_depend_on_its_neighbours() -> None:
    alone = arrays(Plan({"b": orthogonal((8, 4))}, 3))["b"]
    among = arrays(Plan({"a": normal((5,)), "b": orthogonal((8, 4)), "c": normal((5,))}, 3))
    assert alone.tobytes() == among["b"].tobytes()
    assert among["a"].tobytes() != among["c"].tobytes()


def test_scalars_of_any_library_do_not_change_the_neighbours() -> None:
    """Numbers that print alike are not alike."""
    close = (torch.tensor(0.02001), torch.tensor(0.02004), np.float32(0.1), 0.1, np.array(0.1))
    plan = Plan({str(i): normal((50,), std=std, stream="s") for i, std in enumerate(close)})
    values = arrays(plan)
    for name, tensor in plan.tensors.items():
        assert values[name].tobytes() == arrays(Plan({name: tensor}))[name].tobytes()
    assert values["0"].tobytes() != values["1"].tobytes()
    assert values["3"].tobytes() == values["4"].tobytes()


@given(st.integers(1, 40), st.integers(0, 200), st.integers(1, 200), st.integers(1, 5))
def test_windows_hold_the_columns_of_a_range(width: int, first: int, count: int, step: int) -> None:
    content = Sparse(matrices._WINDOW // step, 10**6, 1, NormalDraw(0.0, 1.0))
    found = list(matrices.sparse_windows(content, (7, 7 + width), first, count))
    wanted = {7 + (first + i) % width for i in range(count)}
    columns = [column for left, right in found for column in range(left, right)]
    assert wanted <= set(columns)
    assert len(columns) == len(set(columns))
    assert all(wanted & set(range(left, right)) for left, right in found)


def test_a_read_of_a_very_wide_sparse_matrix_is_quick() -> None:
    plan = Plan({"t": sparse((2, 2**50), 0.5)})
    laid_out = layout(plan)
    began = time.perf_counter()
    VirtualFile(laid_out, load("numpy")).read(laid_out.size // 2, 1000)
    assert time.perf_counter() - began < 20


@given(st.data())
def test_regions_agree_with_numpy_indexing(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=0, max_size=4)))
    cut = data.draw(plans.cuts(shape))
    index = np.arange(int(np.prod(shape)), dtype=np.uint64).reshape(shape)
    wanted = index[cut].reshape(-1)
    region = Region(shape, [(c.start, c.stop) for c in cut])
    assert region.count == wanted.size
    first = data.draw(st.integers(0, wanted.size))
    count = data.draw(st.integers(0, wanted.size - first))
    found = [np.array([], dtype=np.uint64)]
    for offset, runs in region.runs(first, count):
        assert offset == sum(len(part) for part in found)
        found.append((runs.starts[:, None] + np.arange(runs.length, dtype=np.uint64)).reshape(-1))
    assert np.array_equal(np.concatenate(found), wanted[first : first + count])
    inside, local = region.to_local(index.reshape(-1))
    assert np.array_equal(index.reshape(-1)[inside], wanted[local])
    for position in range(wanted.size):
        assert region.to_global(position) == wanted[position]


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.integers(1, 6), st.data())
def test_positions_are_those_of_the_runs_one_by_one(
    starts: list[int], length: int, data: st.DataObject
) -> None:
    runs = Runs(np.array(starts, dtype=np.uint64), length)
    expected = [start + place for start in starts for place in range(length)]
    assert runs.positions().tolist() == expected
    first = data.draw(st.integers(0, runs.count))
    count = data.draw(st.integers(0, runs.count - first))
    found = runs.positions(first, count)
    assert found.dtype == np.uint64
    assert found.tolist() == expected[first : first + count]
    assert runs.positions(first).tolist() == expected[first:]
