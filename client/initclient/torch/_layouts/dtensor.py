"""DTensors: `fully_shard`, tensor parallelism, any placements on a mesh.

A DTensor's placements cut dimensions repeatedly, once for each dimension of the mesh.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeGuard

import torch
from initcore import PlanError, Violation

from initclient.torch._layouts._layout import Layout, Piece, Slot
from initclient.torch._layouts._rectangles import Runs, Shard, cut

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def layouts(slots: Sequence[Slot]) -> Iterable[tuple[int, Layout]]:
    """The layouts of DTensors."""
    for index, slot in enumerate(slots):
        if is_dtensor(slot.tensor):
            yield index, DTensorLayout(slot)


def is_dtensor(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is distributed; False if torch.distributed.tensor was never imported."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


class DTensorLayout(Layout):
    """The layout of a DTensor, whose shape is the global one."""

    def pieces(self) -> Sequence[Piece]:
        """The rectangles that this process holds.

        Raises:
            PlanError: for a placement that is not a part of the tensor (a partial sum), or whose
                layout in torch is not known here.
        """
        return self._shard().pieces()

    def local(self) -> torch.Tensor:
        """The local tensor."""
        return self._shard().tensor

    @property
    def agreement(self) -> str:
        """Placements and sizes of the mesh."""
        tensor = self.slot.tensor
        assert is_dtensor(tensor)
        return f"{tensor.placements} on {tuple(tensor.device_mesh.shape)}"

    def _shard(self) -> Shard:
        tensor = self.slot.tensor
        assert is_dtensor(tensor)
        runs: list[Runs] = [[(0, size)] for size in self.shape]
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
                raise PlanError([Violation(self.name, "placements", message)])
            runs[dim] = cut(runs[dim], chunks, chunk, getattr(placement, "split_factor", 1))
        shape = tuple(sum(stop - start for start, stop in dim) for dim in runs)
        if shape != tuple(local.shape):
            message = (
                f"is {tensor.placements} on a mesh of {tuple(mesh.shape)}, which should leave "
                f"{list(shape)} of {list(tensor.shape)} here, and torch holds {list(local.shape)}; "
                "this layout is not known"
            )
            raise PlanError([Violation(self.name, "placements", message)])
        return Shard(local, tuple(runs))
