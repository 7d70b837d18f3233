"""Lightning Trainer: FSDP2 in `configure_model`; each rank fills its own shards there.

Run it where initserve[torch] and lightning are installed:

    torchrun --nproc-per-node 2 examples/launchers/lightning_trainer.py
"""

import os

import initclient.torch as ict
import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard

with torch.device("meta"):
    model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
plan = ict.plan(model, seed=7)  # yours: the plan of the whole model


class Training(lightning.LightningModule):
    def configure_model(self):
        self.model = fully_shard(model, mesh=self.device_mesh["data_parallel"])
        ict.init_(self.model, plan)  # yours: the Trainer leaves what has memory as it is

    def training_step(self, batch, index):
        loss = self.model(batch).square().mean()
        print(f"rank {self.global_rank} of {world}: loss {loss.item():.6g}", flush=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


world = int(os.environ["WORLD_SIZE"])
strategy = ModelParallelStrategy(data_parallel_size=world, tensor_parallel_size=1)
trainer = lightning.Trainer(accelerator="cpu", devices=world, strategy=strategy, max_steps=2)
trainer.fit(Training(), torch.utils.data.DataLoader(torch.ones(4 * 2 * world, 64), batch_size=4))
