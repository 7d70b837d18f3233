"""One rank of bootstrap.py: gets the weights its own way when it is told to.

    python benchmarks/_rank.py WAY RANK WORLD MEBIBYTES WHERE

Everything is imported, and the ranks know each other, before it says that it is ready.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LAYERS = 16


def plan_of(mebibytes: int) -> Any:
    """A model of square float32 matrices, all normal."""
    import initclient as ic

    rows = mebibytes // _LAYERS * 256
    return ic.Plan(
        {f"layers.{i}.weight": ic.normal((rows, 1024), std=0.02) for i in range(_LAYERS)}, 7
    )


def prepared(way: str, rank: int, world: int, mebibytes: int, where: str) -> Callable[[], Any]:
    """What gets the weights; all that it needs is there."""
    import initclient as ic
    import safetensors.torch
    import torch
    import torch.distributed as dist

    plan = plan_of(mebibytes)
    shapes = {name: tensor.shape for name, tensor in plan.tensors.items()}
    if way in {"broadcast", "seed checkpoint"}:
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=world)
        dist.barrier()

    def with_torch() -> dict[str, Any]:
        torch.manual_seed(7)
        made = {name: torch.empty(shape) for name, shape in shapes.items()}
        for tensor in made.values():
            torch.nn.init.normal_(tensor, 0.0, 0.02)
        return made

    def broadcast() -> Any:
        if rank == 0:
            made = with_torch()
        else:
            made = {name: torch.empty(shape) for name, shape in shapes.items()}
        for tensor in made.values():
            dist.broadcast(tensor, 0)
        return made

    def seed_checkpoint() -> Any:
        path = Path(where.removeprefix("file://") + ".safetensors")
        if rank == 0:
            safetensors.torch.save_file(with_torch(), path)
        dist.barrier()
        # Into memory: what is mapped would be read by the first step of training.
        with path.open("rb") as file:
            return safetensors.torch.load(file.read())

    def sharded() -> Any:
        part = {}
        for name, (rows, _) in shapes.items():
            cuts = rows * rank // world, rows * (rank + 1) // world
            part[name] = (slice(*cuts), slice(None))
        return ic.fetch(plan.shard(part), target="local", backend="native")

    if way.startswith("in process"):
        # The library is loaded, as torch's is.
        ic.fetch(plan_of(_LAYERS), target="local", backend="native")
    ways: dict[str, Callable[[], Any]] = {
        "broadcast": broadcast,
        "same seed": with_torch,
        "seed checkpoint": seed_checkpoint,
        "service": lambda: ic.fetch(plan, target=where),
        "in process": lambda: ic.fetch(plan, target="local", backend="native"),
        "in process, shards": sharded,
    }
    return ways[way]


def memory(field: str) -> int:
    """KiB of this process, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def main() -> None:
    way, rank, world, mebibytes, where = sys.argv[1:]
    get = prepared(way, int(rank), int(world), int(mebibytes), where)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, used = memory("VmRSS"), sum(os.times()[:2])
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    weights = get()
    answer = {
        "seconds": time.perf_counter() - began,
        "processor": sum(os.times()[:2]) - used,
        "peak": memory("VmHWM") / 1024,
        "added": (memory("VmHWM") - before) / 1024,
        "tensors": len(weights),
    }
    print(json.dumps(answer), flush=True)
    # Nobody tears anything down while others still measure.
    sys.stdin.readline()
    os._exit(0)


if __name__ == "__main__":
    main()
