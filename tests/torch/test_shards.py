"""Pieces are the part of a tensor that torch gives to a rank, or DeepSpeed's ZeRO."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from initclient.torch._layouts._rectangles import Runs, Shard, cut, rectangles
from torch.distributed.tensor import Shard as TorchShard
from torch.distributed.tensor.placement_types import _StridedShard


def positions(runs: Runs) -> list[int]:
    return list(itertools.chain.from_iterable(range(*run) for run in runs))


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """A size, and for each mesh dimension its size, this rank's place in it, a split factor."""
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        chunks = draw(st.integers(1, 5))
        steps.append((chunks, draw(st.integers(0, chunks - 1)), draw(st.integers(1, 4))))
    return draw(st.integers(0, 60)), steps


@given(cuttings())
def test_cuts_leave_what_torch_leaves(cutting: tuple[int, list[tuple[int, int, int]]]) -> None:
    size, steps = cutting
    runs: Runs = [(0, size)]
    left = torch.arange(size)
    for chunks, chunk, split in steps:
        placement = TorchShard(0) if split == 1 else _StridedShard(0, split_factor=split)
        shards, _ = placement._split_tensor(left, chunks, with_padding=False)
        left = shards[chunk]
        runs = cut(runs, chunks, chunk, split)
    assert positions(runs) == left.tolist()
    assert all(a[1] != b[0] for a, b in itertools.pairwise(runs))


@given(st.lists(cuttings(), min_size=1, max_size=3))
def test_pieces_tile_the_local_tensor(dims: list[tuple[int, list[tuple[int, int, int]]]]) -> None:
    everything: list[Runs] = []
    for size, steps in dims:
        runs: Runs = [(0, size % 12)]
        for step in steps:
            runs = cut(runs, *step)
        everything.append(runs)
    expected = torch.zeros([len(positions(runs)) for runs in everything], dtype=torch.int64)
    for axis, runs in enumerate(everything):
        view = [1] * len(everything)
        view[axis] = -1
        expected = expected * 12 + torch.tensor(positions(runs), dtype=torch.int64).view(view)
    shard = Shard(torch.full_like(expected, -1), tuple(everything))
    for piece in shard.pieces():
        values = torch.zeros([], dtype=torch.int64)
        for axis, bounds in enumerate(piece.bounds):
            view = [1] * len(everything)
            view[axis] = -1
            values = values * 12 + torch.arange(*bounds).view(view)
        piece.values.copy_(values)
    assert torch.equal(shard.tensor, expected)


@given(st.lists(st.integers(0, 5), max_size=4), st.data())
def test_rectangles_are_a_range_of_the_elements_in_order(sizes: list[int], data: Any) -> None:
    shape = tuple(sizes)
    count = math.prod(shape)
    first = data.draw(st.integers(0, count))
    last = data.draw(st.integers(first, count))
    whole = torch.arange(count).view(shape)
    found = list(rectangles(shape, first, last))
    places = [whole[tuple(slice(*bounds) for bounds in one)].reshape(-1) for one in found]
    flat = torch.cat(places).tolist() if places else []
    assert flat == list(range(first, last))
    assert len(found) <= max(1, 2 * len(shape) - 1)
