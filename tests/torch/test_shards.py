"""shard_of gives the part of a tensor that torch gives to a rank."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from initclient.torch._model.shards import Runs, Shard, cut
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
def test_boxes_tile_the_local_tensor(dims: list[tuple[int, list[tuple[int, int, int]]]]) -> None:
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
    for box in shard.boxes():
        values = torch.zeros([], dtype=torch.int64)
        for axis, bounds in enumerate(box.bounds):
            view = [1] * len(everything)
            view[axis] = -1
            values = values * 12 + torch.arange(*bounds).view(view)
        shard.tensor[box.local] = values
    assert torch.equal(shard.tensor, expected)
