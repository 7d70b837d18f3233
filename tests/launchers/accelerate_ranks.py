"""One rank of Accelerate with FSDP2: filled before `prepare`, and where rank 0 alone has weights.

Run by tests/launchers/test_trainers.py.
"""

from __future__ import annotations

import hashlib
import json
import sys

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import nn

from tests.launchers import accelerate_on_cpu  # noqa: F401
from tests.launchers.gathering import gathered
from tests.torch.verified import one_bit


def main() -> None:
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    accelerator = Accelerator(fsdp_plugin=plugin)
    for by_rank_0 in (False, True):
        plugin.cpu_ram_efficient_loading = by_rank_0
        torch.manual_seed(dist.get_rank())
        model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
        plan = ict.plan(model, seed=7)
        ict.init_(model, plan, "local")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer = accelerator.prepare(model, optimizer)
        assert all(hasattr(one, "device_mesh") for one in model.parameters())
        assert ict.plan(model, seed=7) == plan
        assert ict.verify(model, plan, "local").agreed == tuple(plan)
        one_bit(model, plan, "local", dist.get_world_size() - 1)
        whole, alone = gathered(model, plan), ic.fetch(plan, target="local", framework="torch")
        assert all(torch.equal(whole[name], alone[name]) for name in plan)
        digest = hashlib.sha256(b"".join(one.numpy().tobytes() for one in whole.values()))
        losses = []
        for _ in range(2):
            loss = model(torch.ones(4, 64)).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        result = json.dumps({"hash": digest.hexdigest(), "losses": losses})
        # In one piece: print writes its parts one by one, and two ranks share the pipe.
        print(f"RESULT {result}\n", end="", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    sys.exit(main())
