"""FSDP2 on several pods: every rank asks the service for its own shards, and for nothing else.

    torchrun --nproc-per-node 2 train.py            # INITSERVE_TARGET names the service

The model is made on the meta device, so no pod ever holds all of it.
"""

import initclient.torch as ict
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

gpu = torch.cuda.is_available()
dist.init_process_group("nccl" if gpu else "gloo")
if gpu:
    torch.cuda.set_device(dist.get_node_local_rank())

with torch.device("meta"):
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))
for layer in model:
    fully_shard(layer)
fully_shard(model)

plan = ict.plan(model, seed=7)
ict.init_(model, plan, device="cuda" if gpu else "cpu")

for name, values in model.state_dict().items():
    mine = values.to_local()
    print(
        f"rank {dist.get_rank()}: {name}: {tuple(mine.shape)} of {tuple(values.shape)}", flush=True
    )
# Here the training begins.
dist.destroy_process_group()
