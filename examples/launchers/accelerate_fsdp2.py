"""Accelerate with FSDP2: one call after `prepare`, and each rank makes its own shards only.

Run it on GPUs, where initserve[torch] and accelerate are installed:

    torchrun --nproc-per-node 2 examples/launchers/accelerate_fsdp2.py
"""

import initclient.torch as ict
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import nn

plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
accelerator = Accelerator(fsdp_plugin=plugin)
model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
plan = ict.plan(model, seed=7)  # yours: the names and the whole shapes, on every rank
ict.init_(model, plan)  # yours: after prepare
ict.verify(model, plan)
rank, world = accelerator.process_index, accelerator.num_processes
for _ in range(2):
    loss = model(torch.ones(4, 64, device=accelerator.device)).square().mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    print(f"rank {rank} of {world}: loss {loss.item():.6g}", flush=True)
