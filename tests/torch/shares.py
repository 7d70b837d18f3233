"""One rank that measures the bytes it receives and its memory, while the others wait.

Run by tests/torch/test_shares.py with the addresses of a server and of its metrics.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    RowwiseParallel,
    parallelize_module,
)

from tests.meters import memory, sent
from tests.torch.launching import joined

ROWS, COLUMNS = 12288, 4096
WHOLE = 4 * ROWS * COLUMNS


def fsdp2(mesh: DeviceMesh) -> nn.Module:
    return fully_shard(on_meta(), mesh=mesh)


def tensor_parallel(mesh: DeviceMesh) -> nn.Module:
    return parallelize_module(on_meta(), mesh, RowwiseParallel())


def on_meta() -> nn.Linear:
    with torch.device("meta"):
        return nn.Linear(COLUMNS, ROWS, bias=False)


def measure(build: Callable[[DeviceMesh], nn.Module], world: int, target: str) -> None:
    model = build(init_device_mesh("cpu", (world,)))
    plan = ict.plan(model, seed=3)
    share = WHOLE // world
    for turn in range(world):
        dist.barrier()
        if turn != dist.get_rank():
            continue
        bytes_before, held_before = sent(), memory("VmRSS")
        # In turns, so that ranks cannot agree.
        ict.init_(model, plan, target, device="cpu", agree=False)
        # No less than what it rose by: the peak may be one of an earlier time.
        rise = memory("VmHWM") - held_before
        print(f"{build.__name__}: the peak rose by {rise / share:.2f} of the share", flush=True)
        assert rise < 1.5 * share < WHOLE, (build.__name__, rise, share)
        if target != "local":
            got = sent(bytes_before + share) - bytes_before
            assert share <= got < 1.01 * share, (build.__name__, got, share)
        # What was measured is the real thing.
        row, column = (start_of(model, axis) for axis in (0, 1))
        corner = plan.shard({"weight": ((row, row + 2), (column, column + 2))})
        local = model.weight.to_local()[:2, :2].detach().numpy()
        assert (local == ic.fetch(corner, target="local")["weight"]).all()
    dist.barrier()


def start_of(model: nn.Module, axis: int) -> int:
    (placement,) = model.weight.placements
    size = model.weight.to_local().shape[axis]
    return dist.get_rank() * size if placement.dim == axis else 0


def main() -> None:
    with joined() as (rank, world):
        for target in (os.environ["SERVER"], "local"):
            # What a first time costs, such as loading gRPC, is no part of a model.
            ict.init_(small := nn.Linear(4, 4), ict.plan(small), target)
            for build in (fsdp2, tensor_parallel):
                measure(build, world, target)
                print(f"rank {rank}: {build.__name__} from {target}", flush=True)


if __name__ == "__main__":
    main()
