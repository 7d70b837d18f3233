"""Accelerate: one call after `prepare`, whatever wrapper it puts around the model; here DDP.

Run it where initserve[torch] and accelerate are installed:

    torchrun --nproc-per-node 2 examples/launchers/accelerate_ddp.py
"""

import initclient.torch as ict
import torch
from accelerate import Accelerator
from torch import nn

accelerator = Accelerator(cpu=True)
model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
plan = ict.plan(model, seed=7)  # yours: the names and the plan of the model without its wrapper
ict.init_(model, plan)  # yours: after prepare
ict.verify(model, plan)
rank, world = accelerator.process_index, accelerator.num_processes
for _ in range(2):
    loss = model(torch.ones(4, 64)).square().mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    print(f"rank {rank} of {world}: loss {loss.item():.6g}", flush=True)
