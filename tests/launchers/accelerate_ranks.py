"""One rank of Accelerate with FSDP2: filled before `prepare`, and where rank 0 alone has weights.

Run by tests/launchers/test_trainers.py with the folder for each rank's results.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin

from tests.launchers import accelerate_on_cpu  # noqa: F401
from tests.launchers.example_ranks import alone, small_net
from tests.launchers.gathering import gathered
from tests.torch.verified import one_bit


def main() -> None:
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    accelerator = Accelerator(fsdp_plugin=plugin)
    results = []
    for by_rank_0 in (False, True):
        plugin.cpu_ram_efficient_loading = by_rank_0
        torch.manual_seed(dist.get_rank())
        model, loss_of = small_net({})
        plan = ict.plan(model, seed=7)
        ict.init_(model, plan, "local")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer = accelerator.prepare(model, optimizer)
        assert all(hasattr(one, "device_mesh") for one in model.parameters())
        assert ict.plan(model, seed=7) == plan
        assert ict.verify(model, plan, "local").agreed == tuple(plan)
        one_bit(model, plan, "local", dist.get_world_size() - 1)
        whole, expected = gathered(model, plan), ic.fetch(plan, target="local", framework="torch")
        assert all(torch.equal(whole[name], expected[name]) for name in plan)
        digest = hashlib.sha256(b"".join(one.numpy().tobytes() for one in whole.values()))
        losses = []
        for _ in range(2):
            loss = loss_of(model)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        _, of_one_process = alone({"plan": plan}, small_net)
        results.append({"hash": digest.hexdigest(), "losses": losses, "alone": of_one_process})
    # A file a rank: what two ranks print may meet in one line.
    Path(sys.argv[1], f"rank{dist.get_rank()}.json").write_text(json.dumps(results))
    accelerator.end_training()


if __name__ == "__main__":
    sys.exit(main())
