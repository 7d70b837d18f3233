"""Pipeline stages over processes, alone and with other parallelism, against one process.

A stage has its own modules only, under the full model's names. Run by tests/torch/ranks.py.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from tests.torch.verified import verified


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Deep(nn.Module):
    """A tie between the first stage and the last, and a padding row in both."""

    embed: nn.Embedding | None
    head: nn.Linear | None

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8, padding_idx=3)
        self.layers = nn.Sequential(*(Block() for _ in range(4)))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers(x if self.embed is None else self.embed(x))
        return x if self.head is None else self.head(self.norm(x))


RULES = [ict.rule("*.up.weight", ic.orthogonal), ict.rule("*.bias", ic.uniform)]


def full(device: str) -> tuple[Deep, ic.Plan]:
    with torch.device(device):
        model = Deep()
    return model, ict.plan(model, RULES, seed=11)


def stage_of(model: Deep, number: int) -> Deep:
    """One of two stages: without the modules of the other one, under the same names."""
    if number == 0:
        model.layers = model.layers[:2]
        model.norm = model.head = None  # type: ignore[assignment]
    else:
        model.layers = model.layers[2:]
        model.embed = None
    return model


def filled(stage: nn.Module, plan: ic.Plan) -> ict.InitReport:
    report = ict.init_(stage, plan, target="local", partial=True)
    assert set(report.filled) == set(stage.state_dict())
    assert set(report.absent) == set(plan.tensors) - set(report.filled)
    return report


def check(stage: nn.Module, plan: ic.Plan) -> None:
    """Fills the stage, gathers all of them, and compares them with one process and the file."""
    report = filled(stage, plan)
    own = {name: whole(value) for name, value in stage.state_dict().items()}
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    everything: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, value in part.items():
            assert torch.equal(everything.setdefault(name, value), value), name
    assert set(everything) == set(plan.tensors)
    assert len(report.filled) < len(plan.tensors)

    alone, _ = full("cpu")
    ict.init_(alone, plan, target="local")
    with tempfile.TemporaryDirectory() as folder:
        file = load_file(ic.fetch_file(plan, Path(folder, "all.safetensors"), target="local"))
    for name, expected in alone.state_dict().items():
        assert torch.equal(everything[name], expected), name
        assert torch.equal(file[name], expected), name
    # The stages are the plan's model together.
    verified(stage, plan)


def whole(value: torch.Tensor) -> torch.Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach()


def pipeline_stages(world: int) -> None:
    number = dist.get_rank()
    model, plan = full("meta")
    stage = stage_of(model, number)
    check(stage, plan)
    # Trained as torch does it, in the shapes of micro-batches.
    alone, _ = full("cpu")
    ict.init_(alone, plan, target="local")
    tokens = torch.arange(12).reshape(4, 3)
    schedule = ScheduleGPipe(
        PipelineStage(stage, number, world, torch.device("cpu")), n_microbatches=2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = schedule.step(tokens) if number == 0 else schedule.step()
    if number == world - 1:
        torch.testing.assert_close(output, alone(tokens))


def two_by_two(name: str) -> tuple[DeviceMesh, Deep, ic.Plan]:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pipeline", name))
    model, plan = full("meta")
    return mesh[name], stage_of(model, mesh.get_local_rank("pipeline")), plan


def pipeline_with_tensor_parallel(world: int) -> None:
    mesh, stage, plan = two_by_two("tensor")
    styles = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    for block in stage.layers:
        parallelize_module(block, mesh, styles)
    check(stage, plan)


def pipeline_with_fsdp2(world: int) -> None:
    mesh, stage, plan = two_by_two("data")
    for block in stage.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(stage, mesh=mesh)
    check(stage, plan)
