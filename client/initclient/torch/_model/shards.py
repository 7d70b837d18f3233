"""The part of a global tensor that a rank holds, as rectangles.

A DTensor's placements cut dimensions repeatedly, once for each dimension of the mesh. A rank's
part of a dimension is a list of runs of global positions: one run for plain sharding, several
for FSDP2 over tensor parallelism (strided sharding). The local tensor is the product of the runs
of its dimensions, so it consists of rectangles.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import torch
from initcore import PlanError, Violation

from initclient.torch._model.named_tensors import Member

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Runs: TypeAlias = list[tuple[int, int]]
"""(start, stop) of global positions, in the order in which the local tensor holds them."""


@dataclass(frozen=True)
class Box:
    """A rectangle that a local tensor holds.

    Attributes:
        bounds: (start, stop) in each dimension of the global tensor.
        local: its slices of the local tensor.
    """

    bounds: tuple[tuple[int, int], ...]
    local: tuple[slice, ...]


@dataclass(frozen=True)
class Shard:
    """The part of a parameter or buffer that this process holds.

    Attributes:
        tensor: the local tensor, which shares its memory with the model.
        runs: for each dimension, the global positions in the local order.
    """

    tensor: torch.Tensor
    runs: tuple[Runs, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is one rectangle."""
        return all(len(runs) == 1 for runs in self.runs)

    def boxes(self) -> list[Box]:
        """Its rectangles; an empty list if it is empty."""
        if self.tensor.numel() == 0:
            return []
        if self.is_whole:
            bounds = tuple([runs[0] for runs in self.runs])
            return [Box(bounds, tuple([slice(0, stop - start) for start, stop in bounds]))]
        placed = []
        for runs in self.runs:
            ends = itertools.accumulate((stop - start for start, stop in runs), initial=0)
            local = [slice(begin, end) for begin, end in itertools.pairwise(ends)]
            placed.append(list(zip(runs, local, strict=True)))
        return [
            Box(tuple(run for run, _ in box), tuple(place for _, place in box))
            for box in itertools.product(*placed)
        ]


def is_dtensor(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is distributed; False if torch.distributed.tensor was never imported."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_tensor(member: Member) -> torch.Tensor:
    """The local tensor of `shard_of`, without its positions."""
    if is_dtensor(member.tensor):
        return shard_of(member).tensor
    return member.tensor.detach()


def shard_of(member: Member) -> Shard:
    """The part of a parameter or buffer that this process holds.

    Raises:
        PlanError: for a placement that is not a part of the tensor (a partial sum), or whose
            layout in torch is not known here.
    """
    tensor = member.tensor
    runs: list[Runs] = [[(0, size)] for size in member.shape]
    if not is_dtensor(tensor):
        return Shard(tensor.detach(), tuple(runs))
    with torch.no_grad():
        local = tensor.to_local()
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        # This process is not in the mesh and holds nothing.
        return Shard(local, tuple([] for _ in runs))
    for placement, chunks, chunk in zip(tensor.placements, mesh.shape, coordinate, strict=True):
        if placement.is_replicate():
            continue
        dim = getattr(placement, "dim", None)
        if dim is None:
            message = f"is {placement}, which is no part of the tensor; redistribute it first"
            raise PlanError([Violation(member.name, "placements", message)])
        runs[dim] = cut(runs[dim], chunks, chunk, getattr(placement, "split_factor", 1))
    shape = tuple(sum(stop - start for start, stop in dim) for dim in runs)
    if shape != tuple(local.shape):
        message = (
            f"is {tensor.placements} on a mesh of {tuple(mesh.shape)}, which should leave "
            f"{list(shape)} of {list(tensor.shape)} here, and torch holds {list(local.shape)}; "
            "this layout is not known"
        )
        raise PlanError([Violation(member.name, "placements", message)])
    return Shard(local, tuple(runs))


def cut(runs: Runs, chunks: int, chunk: int, split_factor: Any = 1) -> Runs:
    """The runs of a tensor dimension after one more mesh dimension has cut it.

    As torch.chunk: pieces of ceil(size / chunks), the last ones smaller or empty. With a
    split factor (_StridedShard, placement_types.py in torch.distributed.tensor) the dimension
    is first cut into that many pieces, and each of them is cut into chunks.

    Args:
        runs: the runs after earlier mesh dimensions.
        chunks: the size of this mesh dimension.
        chunk: this process's index in it.
        split_factor: number of pieces to cut first.
    """
    size = sum(stop - start for start, stop in runs)
    left: Runs = []
    for first, last in (_chunk(size, int(split_factor), i) for i in range(int(split_factor))):
        begin, end = _chunk(last - first, chunks, chunk)
        left += _between(runs, first + begin, first + end)
    return _joined(left)


def _chunk(size: int, chunks: int, index: int) -> tuple[int, int]:
    step = -(-size // chunks)
    return min(index * step, size), min((index + 1) * step, size)


def _between(runs: Runs, begin: int, end: int) -> Runs:
    """The runs of the local positions begin .. end - 1."""
    found: Runs = []
    at = 0
    for start, stop in runs:
        first, last = max(begin, at), min(end, at + stop - start)
        if first < last:
            found.append((start + first - at, start + last - at))
        at += stop - start
    return found


def _joined(runs: Runs) -> Runs:
    """The same positions with adjacent runs joined, for fewer rectangles."""
    joined: Runs = []
    for start, stop in runs:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
