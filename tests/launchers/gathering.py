"""Whole weights from all ranks, and the bytes that a rank makes, for the tests of launchers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import initclient as ic
import torch
import torch.distributed as dist
from initclient.torch._model import members
from torch import nn

from tests.counting import counted


def gathered(model: nn.Module, plan: ic.Plan) -> dict[str, torch.Tensor]:
    """The plan's tensors as all ranks together hold them, by name.

    Every element is there, and copies are equal. Rows of padding are left out.
    """
    own = [
        (member.name, piece.bounds, piece.values.clone())
        for member in members(model)
        if member.name in plan.tensors
        for piece in member.layout.pieces()
    ]
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, own)
    whole = {
        name: torch.full(tensor.shape, torch.nan)
        for name, tensor in sorted(plan.tensors.items())
        if any(name == one for rank in every for one, _, _ in rank)
    }
    for name, bounds, values in [one for rank in every for one in rank]:
        place = tuple(slice(*one) for one in bounds)
        before = whole[name][place]
        values = values[tuple(slice(size) for size in before.shape)]
        assert before.isnan().all() or torch.equal(before, values), f"copies of {name} differ"
        whole[name][place] = values
    assert not any(values.isnan().any() for values in whole.values())
    return whole


def made_by(act: Callable[[], object]) -> int:
    """The bytes of a plan's values that this process makes in a call."""
    with counted() as made:
        act()
    return made.nbytes
