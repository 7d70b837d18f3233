"""One rank of DeepSpeed on CPUs: ZeRO 1, 2 and 3, before and after `initialize`.

Run by tests/launchers/test_deepspeed.py, once for each number of ranks. A rank prints a line of
JSON for each case: the hash of the gathered weights, the losses of two steps, the bytes made.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from initclient.torch._model import members
from torch import nn

from tests.launchers.deepspeed_on_cpu import deepspeed
from tests.launchers.gathering import gathered, made_by
from tests.torch.launching import joined
from tests.torch.verified import one_bit


class Net(nn.Module):
    """Sizes that no number of ranks divides, a tie, a matrix that spans ranks within rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(13, 64, padding_idx=2)
        self.up = nn.Linear(64, 101)
        self.kernel = nn.Conv1d(1, 7, 3)
        self.norm = nn.LayerNorm(101)
        self.down = nn.Linear(101, 64, bias=False)
        self.head = nn.Linear(64, 13, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.up(self.embed(tokens))))
        hidden = self.kernel(hidden[:, None])[..., :99].mean(1)
        return self.head(self.down(nn.functional.pad(hidden, (0, 2))))


def config(stage: int, **more: Any) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    return {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 200},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        **more,
    }


def plan() -> ic.Plan:
    """The plan, from a model that DeepSpeed has not seen."""
    with torch.device("meta"):
        return ict.plan(Net(), seed=7)


def started(model: nn.Module, stage: int, **more: Any) -> Any:
    """DeepSpeed's engine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config(stage, **more)
    )
    return engine


def steps(engine: Any) -> list[float]:
    """The losses of two steps, on the same batch on every rank."""
    found = []
    for _ in range(2):
        loss = engine(torch.tensor([0, 5, 7, 12])).square().mean()
        engine.backward(loss)
        engine.step()
        found.append(float(loss.detach()))
    return found


def alone() -> tuple[nn.Module, list[float]]:
    """One process without DeepSpeed: the weights and the losses of two steps."""
    model = Net()
    ict.init_(model, plan(), "local", agree=False)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
    found = []
    for _ in range(2):
        loss = model(torch.tensor([0, 5, 7, 12])).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
    model.load_state_dict(weights)
    return model, found


def report(case: str, model: nn.Module, engine: Any, made: int) -> None:
    """Checks the weights on all ranks together and prints what the test compares."""
    planned = plan()
    held = {
        id(member.tensor): sum(
            piece.values.numel() * piece.values.element_size() for piece in member.layout.pieces()
        )
        for member in members(model)
        if member.name in planned.tensors
    }
    digest = hashlib.sha256()
    for name, values in gathered(model, planned).items():
        digest.update(name.encode() + values.numpy().tobytes())
    assert ict.verify(model, planned, "local").agreed == tuple(planned.tensors)
    if dist.get_world_size() > 1:
        one_bit(model, planned, "local", dist.get_world_size() - 1)
    result = {
        "case": case,
        "world": dist.get_world_size(),
        "hash": digest.hexdigest(),
        "bytes": made / max(1, sum(held.values())),
        "losses": steps(engine or started(model, 3)),
    }
    print("RESULT", json.dumps(result), flush=True)


def partitioned() -> nn.Module:
    """A model whose parameters are partitioned while it is made."""
    torch.manual_seed(dist.get_rank())
    with deepspeed.zero.Init(config_dict_or_path=config(3)):
        return Net()


def zero_init() -> None:
    """`zero.Init`, then init_, then `initialize`."""
    model = partitioned()
    assert {tuple(one.shape) for one in model.parameters()} == {(0,)}
    assert ict.plan(model, seed=7) == plan()
    made = made_by(lambda: ict.init_(model, plan(), "local"))
    expected, _ = alone()
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.equal(ours, theirs)
        # Gathered parameters are whole, beside the partitions.
        assert ict.verify(model, plan(), "local").ok
        ict.init_(model, plan().with_seed(8), "local")
    assert ict.verify(model, plan().with_seed(8), "local").ok
    ict.init_(model, plan(), "local")
    report("zero.Init", model, None, made)


def after_initialize() -> None:
    """init_ after `initialize`, which has taken masters of other values already."""
    for stage in (1, 2, 3):
        for given in ("engine", "module"):
            torch.manual_seed(3)
            engine = started(Net(), stage)
            model = engine if given == "engine" else engine.module
            made = made_by(lambda model=model: ict.init_(model, plan(), "local"))
            report(f"stage {stage} by the {given}", model, engine, made)


def half() -> None:
    """bfloat16 and float16: the masters in float32 follow, or the call is refused."""
    model = started(Net(), 2, bf16={"enabled": True}).module
    planned = ict.plan(model, seed=7)
    ict.init_(model, planned, "local")
    assert ict.verify(model, planned, "local").ok
    own = [one._hp_mapping for one in model.parameters() if one._hp_mapping is not None]
    assert own
    for fragment in own:
        assert fragment.lp_fragment.dtype is torch.bfloat16
        assert torch.equal(fragment.hp_fragment, fragment.lp_fragment.float())
    for kind in ("bf16", "fp16"):
        # Without ZeRO parameters have no mark of their masters.
        engine = started(Net(), 0, **{kind: {"enabled": True}})
        planned = ict.plan(engine, seed=7)
        with pytest.raises(ic.PlanError, match=r"pass the engine to init_, not engine\.module"):
            ict.init_(engine.module, planned, "local")
        ict.init_(engine, planned, "local")
        assert ict.verify(engine, planned, "local").ok
        optimizer = engine.optimizer
        for own, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for parameter, master in zip(own, masters, strict=True):
                assert torch.equal(parameter.float(), master)


def before_initialize() -> None:
    """Stages 1 and 2 take a plain model."""
    for stage in (1, 2):
        torch.manual_seed(3)
        model = Net()
        made = made_by(lambda model=model: ict.init_(model, plan(), "local"))
        report(f"stage {stage} before initialize", model, started(model, stage), made)


def disagreeing() -> None:
    """A rank with another plan, and one with an error: every rank raises, and nothing changes."""
    rank = dist.get_rank()
    model = partitioned()
    before = [one.ds_tensor.clone() for one in model.parameters()]
    with pytest.raises(
        ic.InitserveError, match=r"rank 1 has plan .*, and rank 0 plan .*seed on ev"
    ):
        ict.init_(model, plan().with_seed(rank), "local")
    wrong = ict.plan(nn.Linear(2, 2)) if rank == 1 else plan()
    expected = ic.PlanError if rank == 1 else ic.InitserveError
    with pytest.raises(expected, match="does not" if rank == 1 else "rank 1 cannot fill its part"):
        ict.init_(model, wrong, "local")
    for parameter, values in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.ds_tensor, values)
    # One model on one rank alone.
    if rank == 0:
        ict.init_(nn.Linear(2, 2), ict.plan(nn.Linear(2, 2)), "local", agree=False)
    print("REFUSED", flush=True)


def main() -> None:
    with joined() as (_, world):
        deepspeed.init_distributed("gloo")
        zero_init()
        if world == 2:
            before_initialize()
            after_initialize()
            half()
            disagreeing()
        _, losses = alone()
        print("ALONE", json.dumps(losses), flush=True)


if __name__ == "__main__":
    sys.exit(main())
