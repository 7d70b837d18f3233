"""One rank whose state dict torch.distributed.checkpoint fills from a plan.

Run by tests/torch/test_plan_reader.py.
"""

from __future__ import annotations

import os
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from tests.counting import counted
from tests.torch.launching import joined


class Block(nn.Module):
    """Sizes that tensor parallelism divides, and rows that three ranks hold unevenly."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(64, 100)
        self.down = nn.Linear(100, 64)
        self.norm = nn.LayerNorm(64)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 64)
        self.layers = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(64, 128, bias=False)


def plan_of(model: nn.Module) -> ic.Plan:
    return ict.plan(model, [ict.rule("*up.weight", ic.orthogonal)], seed=5)


def model_of(world: int, tensor_parallel: int) -> nn.Module:
    with torch.device("meta"):
        model = Net()
    sizes, names = (world // tensor_parallel, tensor_parallel), ("data", "tensor")
    mesh = init_device_mesh("cpu", sizes, mesh_dim_names=names)
    for layer in model.layers:
        if tensor_parallel > 1:
            styles = {"up": ColwiseParallel(), "down": RowwiseParallel()}
            parallelize_module(layer, mesh["tensor"], styles)
        fully_shard(layer, mesh=mesh["data"])
    return fully_shard(model, mesh=mesh["data"])


def check(world: int, tensor_parallel: int) -> None:
    model = model_of(world, tensor_parallel)
    plan = plan_of(model)
    model.to_empty(device="cpu")
    state = get_model_state_dict(model)
    held = sum(one.to_local().nbytes for one in state.values() if isinstance(one, DTensor))
    held += sum(one.nbytes for one in state.values() if not isinstance(one, DTensor))
    with counted() as made:
        dcp.load(state, storage_reader=ict.PlanReader(plan, "local"))
    print(f"made {made.nbytes} bytes of a share of {held}", flush=True)
    assert held <= made.nbytes <= 1.05 * held
    assert ict.verify(model, plan)
    refuse_other_plans(state, plan)
    # The same from a server, into a state dict that holds more than the model.
    model.to_empty(device="cpu")
    nested, address = {"model": get_model_state_dict(model)}, os.environ["SERVER"]
    named = ic.Model("acme/net", digest=plan.digest)
    with counted() as made:
        dcp.load(nested, storage_reader=ict.PlanReader(named, address, prefix="model"))
    assert made.nbytes == 0
    assert ict.verify(model, plan)
    # A model without a digest may change between the calls of the ranks.
    for use in (ict.init_, ict.verify):
        with pytest.raises(ValueError, match=f"the {world} processes of this job .*{plan.digest}"):
            use(model, ic.Model("acme/net"), target=address)
    with pytest.raises(ValueError, match="processes of this job"):
        ict.PlanReader(ic.Model("acme/net"), address)


def refuse_other_plans(state: dict[str, Any], plan: ic.Plan) -> None:
    """Every rank raises if one of them has another seed, and nothing has changed."""
    held = [one.to_local() if isinstance(one, DTensor) else one for one in state.values()]
    for tensor in held:
        tensor.fill_(5)
    other = plan.with_seed(6) if dist.get_rank() == 1 else plan
    words = rf"rank 1 reads plan {plan.with_seed(6).digest} .*, and rank 0 plan {plan.digest}"
    with pytest.raises(CheckpointException, match=words):
        dcp.load(state, storage_reader=ict.PlanReader(other, "local"))
    assert all(tensor.eq(5).all() for tensor in held)


if __name__ == "__main__":
    with joined() as (rank, world):
        tensor_parallel = 2 if world == 4 else 1
        check(world, tensor_parallel)
        print(f"rank {rank}: {world // tensor_parallel} x {tensor_parallel} holds the plan")
