"""Lightning Fabric: FSDP2 through ModelParallelStrategy; each rank fills its own shards.

Run it where initserve[torch] and lightning are installed:

    torchrun --nproc-per-node 2 examples/launchers/lightning_fabric.py
"""

import os

import initclient.torch as ict
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard


def sharded(model, mesh):
    for layer in model:
        fully_shard(layer, mesh=mesh["data_parallel"])
    return fully_shard(model, mesh=mesh["data_parallel"])


world = int(os.environ["WORLD_SIZE"])
strategy = ModelParallelStrategy(sharded, data_parallel_size=world, tensor_parallel_size=1)
fabric = Fabric(accelerator="cpu", devices=world, strategy=strategy)
fabric.launch()
with fabric.init_module(empty_init=True):
    model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
plan = ict.plan(model, seed=7)  # yours: the plan of the whole model
model = fabric.setup(model)
ict.init_(model, plan)  # yours: after setup, which fills what is on meta with values of its own
ict.verify(model, plan)
optimizer = fabric.setup_optimizers(torch.optim.SGD(model.parameters(), lr=0.1))
for _ in range(2):
    loss = model(torch.ones(4, 64)).square().mean()
    fabric.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    print(f"rank {fabric.global_rank} of {world}: loss {loss.item():.6g}", flush=True)
