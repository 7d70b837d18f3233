"""FSDP2: each rank computes or fetches its own shards, and no rank ever holds the model.

Run it where initserve[torch] is installed:

    torchrun --nproc-per-node 2 examples/torch_fsdp2.py
"""

import initclient.torch as ict
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo")

with torch.device("meta"):
    model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
for layer in model:
    fully_shard(layer)
fully_shard(model)

plan = ict.plan(model, seed=7)  # the plan of the whole model, whatever the layout
ict.init_(model, plan)  # target="init.ml.svc:50051" fetches the same bits

alone = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
ict.init_(alone, plan)
for name, values in model.state_dict().items():
    assert torch.equal(values.full_tensor(), alone.state_dict()[name])
if dist.get_rank() == 0:
    print(f"{dist.get_world_size()} ranks together hold what one process holds, bit for bit")
dist.destroy_process_group()
