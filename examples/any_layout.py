"""One model, every layout, one SHA-256: of the gathered weights, tensor by tensor in plan order.

Run it where initserve[torch] is installed, with initserve[jax] for the rows of JAX:

    python examples/any_layout.py

No GPU is needed: ranks are processes, and JAX's devices are shares of the CPU. With the
variable INITSERVE_TARGET set, every weight comes from that server. It exits with an error if a
single bit differs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

WIDTH, WORDS = 128, 1000


class Block(nn.Module):
    """One block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, dtype=torch.bfloat16)
        self.down = nn.Linear(4 * WIDTH, WIDTH, dtype=torch.bfloat16)


class Net(nn.Module):
    """A small language model with an initialization of its own; this program never calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.apply(self.init_weights)

    def init_weights(self, module: nn.Module) -> None:
        """What differs from the defaults of torch's modules."""
        if isinstance(module, Block):
            nn.init.orthogonal_(module.proj.weight)
            nn.init.trunc_normal_(module.up.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.sparse_(module.down.weight, sparsity=0.5)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def planned(device: str = "meta") -> tuple[Net, ic.Plan]:
    """The model, and the plan of what its own code draws."""
    recording = ict.record(Net)
    model = recording.model if device == "meta" else Net()
    return model, recording.plan(seed=7)


def sha256(state: Mapping[str, torch.Tensor], plan: ic.Plan) -> str:
    digest = hashlib.sha256()
    for name in plan:
        digest.update(state[name].detach().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


# Layouts: each takes the model on the meta device and returns this rank's part of it.

HALVES = ("pipeline", "rest")
STYLES = {
    "blocks.*.qkv": ColwiseParallel(),
    "blocks.*.proj": RowwiseParallel(),
    "blocks.*.up": ColwiseParallel(),
    "blocks.*.down": RowwiseParallel(),
    "head": ColwiseParallel(),
}


def fsdp2(model: Net, mesh: Any = None) -> Net:
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model: Net) -> nn.Module:
    return parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), STYLES)


def fsdp2_x_tensor_parallel(model: Net) -> Net:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    parallelize_module(model, mesh["tensor"], STYLES)
    return fsdp2(model, mesh["data"])


def pipeline(model: Net, stage: int | None = None) -> Net:
    """One of two stages: without the other stage's modules, with the same names."""
    if (dist.get_rank() if stage is None else stage) == 0:
        model.blocks = model.blocks[:2]
        del model.head
    else:
        model.blocks = model.blocks[2:]
        del model.embed
    return model


def pipeline_x_tensor_parallel(model: Net) -> nn.Module:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pipeline", "tensor"))
    stage = pipeline(model, mesh.get_local_rank("pipeline"))
    known = [style for style in STYLES if style != "head" or hasattr(stage, "head")]
    return parallelize_module(stage, mesh["tensor"], {style: STYLES[style] for style in known})


LAYOUTS: dict[int, dict[str, Callable[[Net], nn.Module]]] = {
    2: {"FSDP2, 2 ranks": fsdp2, "TP, 2 ranks": tensor_parallel, "PP, 2 stages": pipeline},
    3: {"FSDP2, 3 ranks": fsdp2},
    4: {
        "FSDP2, 4 ranks": fsdp2,
        "TP, 4 ranks": tensor_parallel,
        "FSDP2 x TP, 2 x 2 ranks": fsdp2_x_tensor_parallel,
        "PP x TP, 2 x 2 ranks": pipeline_x_tensor_parallel,
    },
}


def one_rank(rank: int, world: int, folder: str, answers: Any) -> None:
    """Fills this rank's part of the model in each layout of `world` ranks; rank 0 gathers."""
    store = dist.FileStore(os.path.join(folder, f"ranks-{world}"), world)
    # Short, because another rank may have failed.
    patience = timedelta(minutes=2)
    dist.init_process_group("gloo", timeout=patience, world_size=world, rank=rank, store=store)
    # torch warns that gathering one dimension of a mesh after the other is slow.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    for label, layout in LAYOUTS[world].items():
        model, plan = planned()
        mine = layout(model)
        ict.init_(mine, plan, device="cpu", partial="PP" in label)
        state = {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in mine.state_dict().items()
        }
        states = [None] * world
        dist.gather_object(state, states if rank == 0 else None)
        if rank == 0:
            everything: dict[str, torch.Tensor] = {}
            for part in states:
                everything.update(part or {})
            answers.put((label, sha256(everything, plan)))
    dist.destroy_process_group()


def jax_devices(plan: ic.Plan, answers: Any) -> None:
    """The same plan as a tree of arrays on 1, 2, 4 and 8 devices."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import initclient.jax as icj
    import jax
    import numpy as np
    from initcore.dtypes import DTYPES
    from jax.sharding import NamedSharding, PartitionSpec

    for count in (1, 2, 4, 8):
        shape = (max(count // 2, 1), min(count, 2))
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]).reshape(shape), ("x", "y"))
        for label, axes in (
            ("rows", [("x", "y")]),
            ("columns", [None, ("x", "y")]),
            ("grid", "xy"),
        ):
            tree = {}
            for name, tensor in plan.tensors.items():
                # A bias has no columns: it is replicated over the axes that it lacks.
                spec = PartitionSpec(*axes[: len(tensor.shape)])
                dtype = DTYPES[tensor.dtype].numpy
                sharding = NamedSharding(mesh, spec)
                tree[name] = jax.ShapeDtypeStruct(tensor.shape, dtype, sharding=sharding)
            arrays = icj.init(tree, plan)
            digest = hashlib.sha256()
            for name in plan:
                digest.update(np.asarray(arrays[name]).tobytes())
            answers.put((f"JAX, {count} device{'s' * (count > 1)}, {label}", digest.hexdigest()))


def main() -> int:
    found: list[tuple[str, str]] = []

    def note(label: str, digest: str) -> None:
        found.append((label, digest))
        print(f"{label:<26}{digest}", flush=True)

    for label, device in (("one process", "cpu"), ("one process, from meta", "meta")):
        model, plan = planned(device)
        ict.init_(model, plan, device="cpu")
        note(label, sha256(model.state_dict(), plan))

    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    # Ranks start from a process that has loaded torch once for all of them.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["initclient.torch", "torch.distributed.fsdp"])
    with tempfile.TemporaryDirectory() as folder:
        file = ic.fetch_file(plan, Path(folder, "init.safetensors"))
        note("the safetensors file", sha256(load_file(file), plan))
        works = [[(one_rank, (rank, world, folder)) for rank in range(world)] for world in LAYOUTS]
        labels = [list(layouts) for layouts in LAYOUTS.values()]
        if importlib.util.find_spec("jax"):
            works.append([(jax_devices, (plan,))])
            labels.append([""] * 12)
        for work, expected in zip(works, labels, strict=True):
            answers = processes.Queue()
            running = [
                processes.Process(target=target, args=(*arguments, answers))
                for target, arguments in work
            ]
            for process in running:
                process.start()
            for process in running:
                process.join()
            if any(process.exitcode for process in running):
                raise SystemExit("a rank failed")
            for _ in expected:
                note(*answers.get(timeout=10))

    if len({digest for _, digest in found}) > 1:
        print("Something differs: this is a bug, please report it.", file=sys.stderr)
        return 1
    print(f"{len(found)} layouts, one model: every bit agrees.")
    if not importlib.util.find_spec("jax"):
        print("JAX is not installed here: pip install 'initserve[jax]'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
