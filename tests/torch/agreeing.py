"""One rank of two that disagree in every way. Run by tests/torch/test_agreement.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from initclient.torch._checking import Processes, Terms, agree, processes
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from tests.torch.launching import joined


def net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


PLAN = ict.plan(net(), seed=7)


def refused(model: nn.Module, words: str, **arguments: Any) -> None:
    """init_ raises with these words, and nothing has changed."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    plan = arguments.pop("plan", PLAN)
    with pytest.raises((ic.InitserveError, ic.PlanError, ValueError), match=words):
        ict.init_(model, plan, "local", **arguments)
    assert all(map(torch.equal, before, model.parameters()))


def other_plan(rank: int) -> None:
    refused(net(), r"rank 1 has plan \w+, and rank 0 plan \w+; give", plan=PLAN.with_seed(rank))


def an_error(rank: int) -> None:
    words = "has this parameter and the plan does not"
    words = words if rank == 1 else f"rank 1 cannot fill its part, so no .* PlanError: .*{words}"
    refused(net() if rank == 0 else nn.Sequential(*net(), nn.Linear(2, 2)), words)


def an_argument(rank: int) -> None:
    words = "device is 'meta'" if rank == 0 else "rank 0 cannot fill its part.*device is 'meta'"
    refused(net(), words, device="meta" if rank == 0 else "cpu")


def other_layout(rank: int) -> None:
    model = net()
    mesh = init_device_mesh("cpu", (2,))
    placements = [Shard(0)] if rank == 1 else [Replicate()]
    for module in model:
        for name, parameter in list(module.named_parameters()):
            # Without communication, which ranks of two layouts could not do together.
            local = parameter.detach().chunk(2)[1] if rank == 1 else parameter.detach()
            shape, stride = parameter.shape, parameter.stride()
            made = DTensor.from_local(local, mesh, placements, shape=shape, stride=stride)
            setattr(module, name, nn.Parameter(made))
    words = (
        r"rank 0 has '0\.bias \[3\] torch\.float32 \(Replicate.* on \(2,\)', and rank 1 does not"
    )
    with pytest.raises(ic.InitserveError, match=words):
        ict.init_(model, PLAN, "local")


def other_names(rank: int) -> None:
    keep = "1.*" if rank == 1 else ()
    refused(net(), "rank 0 has '1.bias .*, and rank 1 does not; give every process", keep=keep)


def other_version(rank: int) -> None:
    terms = Terms(versions="initserve 0.3.0") if rank == 0 else Terms(versions="initserve 0.1.0")
    words = "rank 1 has initserve 0.1.0, and rank 0 initserve 0.3.0; install one version"
    with pytest.raises(ic.InitserveError, match=words):
        agree(Processes.of(None, local=False), None, lambda: terms)


def other_order(rank: int) -> None:
    """Fingerprints are sums over processes, row by row in the plan's order."""
    order = list(PLAN) if rank == 0 else list(PLAN)[::-1]
    plan = ic.Plan({name: PLAN[name] for name in order}, seed=7)
    with pytest.raises(ic.InitserveError, match=r"rank 1 and rank 0 have plans of .* order"):
        ict.fingerprints(net(), plan)


def switched_off(rank: int) -> None:
    model = net()
    if rank == 0:
        ict.init_(model, PLAN, "local", agree=False)
        assert ict.verify(model, PLAN, "local", local=True).ok


def in_a_group(rank: int) -> None:
    groups = [dist.new_group([one]) for one in range(2)]
    model = net()
    ict.init_(model, PLAN.with_seed(rank), "local", group=groups[rank])
    assert ict.verify(model, PLAN.with_seed(rank), "local", local=True).ok


def outside_the_group(rank: int) -> None:
    group, model = dist.new_group([0]), net()
    if rank == 0:
        ict.init_(model, PLAN, "local", group=group)
    else:
        refused(model, "not in the group; only processes of the group", group=group)


def only_one_calls(rank: int) -> None:
    group = dist.new_group([0, 1], timeout=timedelta(seconds=2))
    if rank == 0:
        refused(net(), "not every process of the group has called init_ too", group=group)
    # Otherwise this rank might end and break the connection before the timeout.
    dist.barrier()


def one_that_is_late(rank: int) -> None:
    model = net()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "PATIENCE", 0.2)
        if rank == 0:
            with pytest.warns(ic.PlanWarning, match="for the other processes .* agree=False"):
                ict.init_(model, PLAN, "local")
        else:
            time.sleep(2)
            ict.init_(model, PLAN, "local")
    assert ict.verify(model, PLAN, "local").ok


WAYS: list[Callable[[int], None]] = [
    other_plan,
    an_error,
    an_argument,
    other_layout,
    other_names,
    other_version,
    other_order,
    switched_off,
    in_a_group,
    outside_the_group,
    only_one_calls,
    one_that_is_late,
]


def main() -> None:
    with joined() as (rank, _):
        for way in WAYS:
            way(rank)
        model = net()
        ict.init_(model, PLAN, "local")
        assert ict.verify(model, PLAN, "local").ok
        print(f"rank {rank}: {len(WAYS)} agreements", flush=True)


if __name__ == "__main__":
    main()
