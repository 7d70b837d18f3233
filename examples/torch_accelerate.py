"""Hugging Face Accelerate: one call after `prepare`, whatever wrapper it puts around the model.

Run it where initserve[torch] and accelerate are installed:

    torchrun --nproc-per-node 2 examples/torch_accelerate.py
"""

import initclient.torch as ict
import torch
from accelerate import Accelerator
from torch import nn


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))


accelerator = Accelerator(cpu=True)
model = build()
model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
ict.init_(model, ict.plan(model, seed=7))

alone = build()
ict.init_(alone, ict.plan(alone, seed=7))
for name, values in accelerator.get_state_dict(model).items():
    assert torch.equal(values, alone.state_dict()[name])
accelerator.print(f"{accelerator.num_processes} processes hold what one process holds")
accelerator.end_training()
