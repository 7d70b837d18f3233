"""One rank of a distributed test: every layout must hold what a single process holds.

Run by tests/torch/test_layouts.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient.torch._model import members
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from tests.counting import counted
from tests.torch import pipelines
from tests.torch.launching import joined
from tests.torch.verified import verified


class Net(nn.Module):
    """Uneven rows, a tie, a padding row, a buffer that only its module computes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=2)
        self.up = nn.Linear(6, 7)
        self.norm = nn.BatchNorm1d(7)
        self.down = nn.Linear(7, 6, bias=False)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", self.scales(), persistent=False)

    def scales(self) -> torch.Tensor:
        return torch.arange(7.0)

    def reset_buffers(self) -> None:
        self.scale.copy_(self.scales())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.down(self.norm(self.up(self.embed(tokens))) * self.scale))


class Even(nn.Module):
    """Sizes that tensor parallelism and FSDP2 together divide."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


RULES = [
    ict.rule("*.bias", ic.zeros),
    # Schemes whose parts need more than their own elements.
    ict.rule("up.weight", ic.orthogonal),
    ict.rule("down.weight", ic.sparse, sparsity=0.4),
]


def plan_of(model: nn.Module) -> ic.Plan:
    return ict.plan(model, RULES, seed=7)


def single(build: Callable[[], nn.Module]) -> nn.Module:
    model = build()
    ict.init_(model, plan_of(model), target="local")
    return model


def check(model: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Fills a sharded model, gathers it, and compares it with one process."""
    alone = single(build)
    plan = plan_of(model)
    assert plan == plan_of(alone)
    asked = filled_with(model, plan)
    held = 0
    seen = set()
    expected = {member.name: member.tensor for member in members(alone)}
    for member in members(model):
        tensor = member.tensor
        assert torch.equal(gathered(tensor), expected[member.name]), member.name
        if id(tensor) not in seen and member.name in plan.tensors:
            held += (tensor.to_local() if isinstance(tensor, DTensor) else tensor).numel()
        seen.add(id(tensor))
    assert asked == held, (asked, held)
    verified(model, plan)


def filled_with(model: nn.Module, plan: ic.Plan) -> int:
    """Fills a model and returns the number of requested elements."""
    with counted() as made:
        ict.init_(model, plan, target="local")
    return made.elements


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def sharded(model: Net, mesh: DeviceMesh) -> Net:
    fully_shard(model.up, mesh=mesh)
    fully_shard(model.down, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fsdp2(world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    tokens = torch.arange(11)
    expected = single(Net)(tokens)
    for build in (Net, lambda: meta(Net)):
        model = sharded(build(), mesh)
        check(model, Net)
        assert model.head.weight is model.embed.weight
        # What FSDP2 keeps beside the parameters must be the same memory.
        torch.testing.assert_close(model(tokens), expected)
        # The forward has left gathered parameters behind, which are not the model's own.
        other, plan = Net(), plan_of(Net()).with_seed(8)
        for either in (model, other):
            ict.init_(either, plan, target="local")
        model.reshard()
        assert torch.equal(gathered(model.embed.weight), other.embed.weight)
        output = model(tokens)
        torch.testing.assert_close(output, other(tokens))
        output.sum().backward()


def hybrid(world: int) -> None:
    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("replicate", "shard"))
    check(sharded(meta(Net), mesh), Net)


def tensor_parallel(world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    styles = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    check(parallelize_module(meta(Even), mesh, styles), Even)


def fsdp2_with_tensor_parallel(world: int) -> None:
    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("data", "tensor"))
    styles = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    model = parallelize_module(meta(Even), mesh["tensor"], styles)
    fully_shard(model, mesh=mesh["data"])
    check(model, Even)
    strided = [p for p in model.up.weight.placements if hasattr(p, "split_factor")]
    assert strided, "FSDP2 over tensor parallelism shards in strides"


def any_placement(world: int) -> None:
    meshes = [init_device_mesh("cpu", (world,))]
    layouts: list[list[tuple[Placement, ...]]] = [[(Shard(0),), (Shard(1),), (Replicate(),)]]
    if world == 4:
        meshes.append(init_device_mesh("cpu", (2, 2)))
        layouts.append(
            [
                (Shard(0), Shard(0)),
                (Shard(1), Shard(0)),
                (Shard(0), Shard(1)),
                (Replicate(), Shard(1)),
                (Shard(1), Shard(1)),
            ]
        )
    for mesh, choices in zip(meshes, layouts, strict=True):
        for placements in choices:
            model = meta(Net)
            for module in (model.embed, model.up, model.down):
                placed = distribute_tensor(module.weight.detach(), mesh, placements)
                module.weight = nn.Parameter(placed)
            model.head.weight = model.embed.weight
            check(model, Net)


def wrapped(world: int) -> None:
    model = DistributedDataParallel(Net())
    assert plan_of(model) == plan_of(Net())
    ict.init_(model, plan_of(model), target="local")
    verified(model, plan_of(model))
    for ours, theirs in zip(model.parameters(), single(Net).parameters(), strict=True):
        assert torch.equal(ours, theirs)


def flattened(world: int) -> None:
    with warnings.catch_warnings():
        # FSDP1 is on its way out of torch, and says so in several ways.
        warnings.simplefilter("ignore")
        model = FullyShardedDataParallel(Net(), device_id=torch.device("cpu"), use_orig_params=True)
        for act in (plan_of, lambda model: ict.init_(model, plan_of(Net()), target="local")):
            with pytest.raises(ic.PlanError, match="FullyShardedDataParallel has flattened this"):
                act(model)
        with FullyShardedDataParallel.summon_full_params(model):
            assert plan_of(model) == plan_of(Net())
            ict.init_(model, plan_of(model), target="local")
        with FullyShardedDataParallel.summon_full_params(model):
            for ours, theirs in zip(model.parameters(), single(Net).parameters(), strict=True):
                assert torch.equal(ours, theirs)


def main() -> None:
    with joined() as (rank, world):
        scenarios = [fsdp2, any_placement]
        if world == 2:
            scenarios += [tensor_parallel, wrapped, flattened, pipelines.pipeline_stages]
        if world == 4:
            scenarios += [tensor_parallel, hybrid, fsdp2_with_tensor_parallel]
            scenarios += [pipelines.pipeline_with_tensor_parallel, pipelines.pipeline_with_fsdp2]
        for scenario in scenarios:
            scenario(world)
            print(f"rank {rank}: {scenario.__name__} equals one process", flush=True)


if __name__ == "__main__":
    main()
