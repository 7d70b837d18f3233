"""Ranks that verify with a server, and ranks that fail: all of them end alike.

Run by tests/torch/test_verify.py.
"""

from __future__ import annotations

import os

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor

from tests.torch.launching import joined
from tests.torch.ranks import Net, plan_of, sharded
from tests.torch.verified import verified


def filled(target: str) -> tuple[nn.Module, ic.Plan]:
    model = sharded(Net(), init_device_mesh("cpu", (dist.get_world_size(),)))
    plan = plan_of(model)
    ict.init_(model, plan, target="local")
    return model, plan


def with_a_server(target: str) -> None:
    model, plan = filled(target)
    verified(model, plan, target)
    # A copy on each rank: an even number of them, too.
    copies = nn.parallel.DistributedDataParallel(Net())
    ict.init_(copies, plan, target="local")
    verified(copies, plan, target)


def what_is_ignored_is_asked_of_nobody(target: str) -> None:
    """The server has no folder of checkpoints, and need not have one."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    drawn = {"1.weight": ic.normal((4, 4))}
    body = ic.pretrained((4, 4), "a.safetensors", source="w", sha256="0" * 64)
    ict.init_(model, ic.Plan(drawn, 5), "local", values={"0.weight": torch.zeros(4, 4)})
    plan = ic.Plan({"0.weight": body, **drawn}, 5)
    assert ict.verify(model, plan, target, ignore="0.*").agreed == ("1.weight",)


def alone_among_many(target: str) -> None:
    """local: each rank compares its parts alone, and only a rank with a fault sees it."""
    model, plan = filled(target)
    for source in ("local", target):
        if dist.get_rank() == 0:
            assert ict.verify(model, plan, source, local=True).agreed == tuple(plan.tensors)
    dist.barrier()
    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    own = nn.Linear(3, 2 + dist.get_rank())
    mine = ict.plan(own, seed=dist.get_rank())
    ict.init_(own, mine, target="local", agree=False)
    assert ict.verify(own, mine, "local", group=groups[dist.get_rank()]).ok


def a_failure_of_one_rank(target: str) -> None:
    model, plan = filled(target)
    last = dist.get_world_size() - 1
    if dist.get_rank() == last:
        with pytest.raises(ValueError, match=r"'up\.weight' is on the meta device"):
            ict.verify({"up.weight": torch.empty(7, 6, device="meta")}, plan, "local")
    else:
        with pytest.raises(ic.InitserveError, match=f"rank {last} could not verify its part"):
            ict.verify(model, plan, "local")
    # A server that does not answer: one rank calls it, and all ranks raise.
    with pytest.raises(ic.InitserveError, match=r"127\.0\.0\.1:1"):
        ict.verify(model, plan, "127.0.0.1:1", retry=ic.Retry(attempts=1))
    with pytest.raises(ic.InitserveError, match="the same plan and seed on every process"):
        ict.verify(model, plan, "local", seed=dist.get_rank())
    assert ict.verify(model, plan, "local").ok


def what_only_some_ranks_have(target: str) -> None:
    """All ranks report the findings of one rank."""
    model, plan = filled(target)
    state = dict(model.state_dict())
    if dist.get_rank() == 0:
        state["extra"] = torch.zeros(2)
        state["up.bias"] = torch.zeros(3)
    with pytest.raises(ic.VerificationError) as caught:
        ict.verify(state, plan, "local")
    found = [(one.name, one.kind) for one in caught.value.report.mismatches]
    assert found == [("up.bias", "shape"), ("extra", "unexpected")]
    # A shard that no rank holds.
    state = {"norm.weight": model.norm.weight} if dist.get_rank() == 0 else {}
    with pytest.raises(ic.VerificationError, match="no whole number of copies"):
        ict.verify(state, plan.select(["norm.weight"]), "local")
    assert ict.verify({}, plan.select(["norm.weight"]), "local", partial=True).agreed == ()


def exchanged_shards(target: str) -> None:
    """Each rank holds another rank's part: all values are there, in the wrong places."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan = ic.Plan({"w": ic.normal((4, 6)), "v": ic.normal((4, 6))}, seed=3)
    values = {n: torch.from_numpy(v) for n, v in ic.fetch(plan, target="local").items()}
    right = {n: distribute_tensor(v, mesh, [Shard(1)]) for n, v in values.items()}
    for source in ("local", target):
        assert ict.verify(right, plan, source).ok
        swapped = {"w": distribute_tensor(values["w"].roll(3, 1), mesh, [Shard(1)])}
        with pytest.raises(ic.VerificationError) as caught:
            ict.verify(swapped, plan.select(["w"]), source)
        (mismatch,) = caught.value.report.mismatches
        assert [part.rank for part in mismatch.parts] == list(range(dist.get_world_size()))
    partial = right["w"].redistribute(mesh, [Replicate()])
    odd = torch.distributed.tensor.DTensor.from_local(partial.to_local(), mesh, [Partial()])
    with pytest.raises(ic.PlanError, match="no part of the tensor"):
        ict.verify({"w": odd}, plan.select(["w"]), "local")


def after_a_forward(target: str) -> None:
    """verify compares the shards, not the copies that FSDP2 has gathered."""
    model = nn.Linear(6, 4)
    plan = ict.plan(model, seed=2)
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    ict.init_(model, plan, target="local")
    model(torch.zeros(2, 6))
    assert ict.verify(model, plan, "local").ok


SCENARIOS = [
    with_a_server,
    what_is_ignored_is_asked_of_nobody,
    alone_among_many,
    a_failure_of_one_rank,
    what_only_some_ranks_have,
    exchanged_shards,
    after_a_forward,
]


def main() -> None:
    with joined() as (rank, _):
        for scenario in SCENARIOS:
            scenario(os.environ["VERIFY_TARGET"])
            print(f"rank {rank}: {scenario.__name__} done", flush=True)


if __name__ == "__main__":
    main()
