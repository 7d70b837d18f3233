"""FSDP2 on top of tensor parallelism: strided shards of shards, with the weights of one process.

Run it where initserve[torch] is installed:

    torchrun --nproc-per-node 4 examples/torch_fsdp2_tp.py
"""

import initclient.torch as ict
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))

with torch.device("meta"):
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
fully_shard(model, mesh=mesh["data"])

plan = ict.plan(model, seed=7)  # fans and names are the whole model's
ict.init_(model, plan)  # a quarter of it, here

alone = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
ict.init_(alone, plan)
for name, values in model.state_dict().items():
    assert torch.equal(values.full_tensor(), alone.state_dict()[name])
if dist.get_rank() == 0:
    print("2 x 2 ranks together hold what one process holds, bit for bit")
dist.destroy_process_group()
