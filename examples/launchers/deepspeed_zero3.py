"""DeepSpeed ZeRO-3: each rank fills its own partitions, and no rank ever holds a whole weight.

Run it where initserve[torch] and DeepSpeed are installed:

    torchrun --nproc-per-node 2 examples/launchers/deepspeed_zero3.py
"""

import deepspeed
import initclient.torch as ict
import torch
from torch import nn

config = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 3}}
config |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
deepspeed.init_distributed()

with deepspeed.zero.Init(config_dict_or_path=config):
    model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))

plan = ict.plan(model, seed=7)  # yours: the whole shapes, on every rank
ict.init_(model, plan)  # yours: before initialize, or after it with the engine
ict.verify(model, plan)

optimizer = torch.optim.AdamW(model.parameters())
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
loss = engine(torch.ones(4, 64)).square().mean()
engine.backward(loss)
engine.step()
print(
    f"rank {engine.global_rank} of {engine.world_size}: loss {float(loss.detach()):.6f}", flush=True
)
