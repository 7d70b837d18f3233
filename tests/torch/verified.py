"""The check of every layout in the distributed tests: verify agrees, and finds one wrong bit.

Called by all ranks together, from tests/torch/ranks.py and pipelines.py, with a model that holds
the plan's weights.
"""

from __future__ import annotations

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from initclient.torch._layouts import planned_pieces
from initclient.torch._model.named_tensors import Member, members
from torch import nn


def verified(model: nn.Module, plan: ic.Plan, target: str = "local") -> None:
    report = ict.verify(model, plan, target)
    assert report.agreed == tuple(plan.tensors)
    planned = ic.describe(plan, target="local", fingerprints=True)
    assert report.plan_digest == planned.digest
    assert {name: str(value) for name, value in report.fingerprints.items()} == {
        tensor.name: tensor.fingerprint for tensor in planned.tensors
    }
    for rank in {0, dist.get_world_size() - 1}:
        one_bit(model, plan, target, rank)
    assert ict.verify(model, plan, target).ok


def one_bit(model: nn.Module, plan: ic.Plan, target: str, rank: int) -> None:
    """Flips a bit of one element on one rank: every rank reports the tensor and that rank."""
    held = [m for m in members(model) if m.name in plan.tensors and pieces(m, plan)]
    chosen = held[-1]
    names = [[member.name for member in held if member.tensor is chosen.tensor]]
    dist.broadcast_object_list(names, src=rank)
    if dist.get_rank() == rank:
        flip(pieces(chosen, plan)[-1].values)
    with pytest.raises(ic.VerificationError) as caught:
        ict.verify(model, plan, target)
    mismatches = {mismatch.name: mismatch for mismatch in caught.value.report.mismatches}
    assert set(mismatches) == set(names[0])
    for mismatch in mismatches.values():
        assert mismatch.kind == "values"
        assert {part.rank for part in mismatch.parts} == {rank}
        if target == "local":
            assert [part.elements for part in mismatch.parts] == [1]
    if dist.get_rank() == rank:
        flip(pieces(chosen, plan)[-1].values)


def pieces(member: Member, plan: ic.Plan) -> list[ict.Piece]:
    """What this rank holds of a tensor of the plan."""
    return planned_pieces(member.layout, plan.tensors[member.name].shape)


def flip(values: torch.Tensor) -> None:
    """Changes the lowest bit of the last element."""
    last = values[tuple(size - 1 for size in values.shape)]
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    last.view(integers[last.element_size()]).bitwise_xor_(1)
