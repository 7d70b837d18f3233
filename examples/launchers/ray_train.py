"""Ray Train: FSDP2 in the workers of a TorchTrainer; each worker fills its own shards.

Run it where initserve[torch] and ray[train] are installed:

    python examples/launchers/ray_train.py
"""

import initclient.torch as ict
import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer
from torch import nn
from torch.distributed.fsdp import fully_shard


def train_loop():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
    plan = ict.plan(model, seed=7)  # yours: the plan of the whole model
    fully_shard(model)
    ict.init_(model, plan)  # yours: in every worker
    ict.verify(model, plan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        loss = model(torch.ones(4, 64)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    ray.train.report({"losses": losses})
    return model, plan, losses


if __name__ == "__main__":
    ray.init(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False)
    workers = ray.train.ScalingConfig(num_workers=2)
    print(TorchTrainer(train_loop, scaling_config=workers).fit().metrics)
