"""One rank of Megatron-Core's wrappers and optimizers on CPUs: filled before and after each.

Run by tests/launchers/test_megatron_optimizer.py, with one rank and with two. A rank prints a line
of JSON for each case. One process saves its weights after a step, and two are compared with them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    TorchFullyShardedDataParallel,
)
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.cpu_offloading import HybridDeviceOptimizer
from megatron.core.transformer.module import Float16Module
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from tests.launchers import megatron_optimizer_on_cpu  # noqa: F401
from tests.launchers.gathering import gathered
from tests.launchers.megatron_on_cpu import parallel_state as state
from tests.launchers.megatron_ranks import LENGTH, Case, chunks_of, rules_of
from tests.torch.launching import joined
from tests.torch.verified import one_bit


@dataclass(frozen=True)
class Trained:
    """A layout, an optimizer, and the place of init_.

    Attributes:
        layout: the model and its layout.
        is_sharded: whether the optimizer is the distributed one.
        place: "before" the wrappers, "wrapped" before the optimizer, or "after" it.
        buckets: elements of a bucket; None means one bucket.
    """

    layout: Case
    is_sharded: bool
    place: str
    buckets: int | None = None

    @property
    def key(self) -> str:
        """What one process shares with all layouts."""
        return f"{self.layout.kind}-{self.layout.half}"


KINDS = [(True, False), (True, True), (False, False), (False, True)]
PLACES = ("before", "wrapped", "after")
ALONE = [Trained(Case(half=half), False, "before") for half in (True, False)]
ALONE += [Trained(Case("experts", half=True), False, "before")]
TWO = [
    Trained(Case(tp=tp, half=half), is_sharded, place)
    for half, is_sharded in KINDS
    for tp in (1, 2)
    for place in PLACES
]
TWO += [
    Trained(Case(half=True), True, "after", 20_000),
    Trained(Case("experts", ep=2, half=True), True, "after"),
]


def wrapped(case: Trained, model: nn.Module) -> nn.Module:
    """The model in Float16Module, if it is one, and in Megatron's DistributedDataParallel."""
    config: Any = model.config
    if case.layout.half:
        model = Float16Module(config, model)
    settings = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        use_distributed_optimizer=case.is_sharded,
        overlap_grad_reduce=case.buckets is not None,
        bucket_size=case.buckets,
    )
    return DistributedDataParallel(config, settings, model)


def optimizer_of(case: Trained, model: nn.Module) -> Any:
    """Megatron's optimizer, with steps that small differences of gradients change little."""
    config = OptimizerConfig(
        optimizer="adam",
        lr=0.02,
        adam_eps=0.01,
        weight_decay=0.0,
        clip_grad=0.0,
        bf16=case.layout.half,
        params_dtype=torch.bfloat16 if case.layout.half else torch.float32,
        use_distributed_optimizer=case.is_sharded,
    )
    return get_megatron_optimizer(config, [model], use_gloo_process_groups=False)


def started(case: Trained) -> tuple[nn.Module, ic.Plan]:
    """A model of Megatron with values of its own, and its plan."""
    state.initialize_model_parallel(
        tensor_model_parallel_size=case.layout.tp,
        expert_model_parallel_size=case.layout.ep,
        expert_tensor_parallel_size=1,
    )
    torch.manual_seed(3)
    (model,) = chunks_of(case.layout)
    if case.layout.half:
        # As Float16Module does; torch's norms are in float32 before it.
        model.bfloat16()
    return model, ict.plan(model, rules_of(case.layout), seed=7, join=True)


def step(model: nn.Module, optimizer: Any) -> None:
    """One step of training, on the same batch on every rank."""
    tokens = torch.arange(LENGTH)[None] * 7 % 128
    mask = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).triu(1)
    ddp: Any = model
    ddp.zero_grad_buffer()
    optimizer.zero_grad()
    model(tokens, tokens, mask, labels=tokens).mean().backward()
    ddp.finish_grad_sync()
    optimizer.step()


def run(case: Trained) -> dict[str, Any]:
    """Fills a model at a place, trains it for a step, and compares it with one process."""
    model, plan = started(case)
    partial = case.layout.ep > 1
    if case.place == "before":
        ict.init_(model, plan, "local", partial=partial)
    model = wrapped(case, model)
    if case.place == "wrapped":
        ict.init_(model, plan, "local", partial=partial)
    optimizer = optimizer_of(case, model)
    if case.place == "after":
        if case.is_sharded and case.layout.half:
            only_the_wrapper_knows(model, plan, partial)
        ict.init_(model, plan, "local", partial=partial)
    assert ict.plan(model, rules_of(case.layout), seed=7, join=True) == plan
    assert ict.verify(model, plan, "local").agreed == tuple(plan)
    masters = masters_follow(optimizer)
    if dist.get_world_size() > 1:
        one_bit(model, plan, "local", dist.get_world_size() - 1)
    before = gathered(model, plan)
    step(model, optimizer)
    after = gathered(model, plan)
    path = os.path.join(os.environ["PLANS"], case.key)
    if dist.get_world_size() == 1:
        torch.save(after, path)
    alone = torch.load(path)
    state.destroy_model_parallel()
    return {
        **asdict(case),
        "masters": masters,
        "moved": min(farthest(before[name], alone[name]) for name in plan),
        "difference": max(farthest(after[name], alone[name]) for name in plan),
        "same": all(torch.equal(after[name], alone[name]) for name in plan),
    }


def farthest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def masters_follow(optimizer: Any) -> int:
    """The number of masters of this rank, each equal to its part of the parameter."""
    count = 0
    for inner in optimizer.chained_optimizers:
        if hasattr(inner, "model_float16_groups"):
            # The distributed one, by its own map of ranges.
            for own, masters in zip(
                inner.model_float16_groups, inner.shard_fp32_from_float16_groups, strict=True
            ):
                for parameter, master in zip(own, masters, strict=True):
                    part = inner._get_model_param_range_map(parameter)["param"]
                    flat = parameter.detach().view(-1)[part.start : part.end]
                    assert torch.equal(flat.float(), master)
                    count += 1
        for own, masters in zip(
            getattr(inner, "float16_groups", ()),
            getattr(inner, "fp32_from_float16_groups", ()),
            strict=True,
        ):
            for parameter, master in zip(own, masters, strict=True):
                assert torch.equal(parameter.float(), master)
                count += 1
    return count


def only_the_wrapper_knows(model: nn.Module, plan: ic.Plan, partial: bool) -> None:
    """The model inside is refused, since its masters would keep the old values."""
    inside: Any = model
    before = [one.detach().clone() for one in model.parameters()]
    words = "pass the model as DistributedDataParallel wraps it, or fill the model before get_mega"
    with pytest.raises(ic.PlanError, match=words):
        ict.init_(inside.module, plan, "local", partial=partial)
    assert all(map(torch.equal, before, model.parameters()))


def unknown_copies() -> None:
    """Masters within another optimizer, and copies on the host, are refused."""
    case = Trained(Case(half=True), True, "after")
    model, plan = started(case)
    model = wrapped(case, model)
    optimizer = optimizer_of(case, model)
    own = [one for one in model.parameters() if one.main_param is not None]
    kept = [one.main_param for one in own]
    for parameter in own:
        # As use_precision_aware_optimizer has it, which needs TransformerEngine.
        parameter.main_param = None
    with pytest.raises(ic.PlanError, match="not those that are known here"):
        ict.init_(model, plan, "local")
    for parameter, main in zip(own, kept, strict=True):
        parameter.main_param = main
    ict.init_(model, plan, "local")
    assert masters_follow(optimizer)
    HybridDeviceOptimizer(
        [nn.Parameter(torch.ones(2))],
        cpu_optimizer_cls=torch.optim.AdamW,
        gpu_optimizer_cls=torch.optim.AdamW,
        overlap_cpu_optimizer_d2h_h2d=False,
        lr=0.1,
    )
    with pytest.raises(ic.PlanError, match=r"HybridDeviceOptimizer .*fill the model before"):
        ict.init_(model, plan, "local")
    state.destroy_model_parallel()
    print("REFUSED", flush=True)


def other_wrappers() -> None:
    """FSDP2 in Megatron's wrapper, and the mark of Megatron-FSDP, are refused by name."""
    case = Trained(Case(), False, "after")
    model, plan = started(case)
    parameter: Any = model.decoder.final_layernorm.weight
    # What its buffers leave on a parameter; they need a GPU.
    parameter.__fsdp_param__ = True
    with pytest.raises(ic.PlanError, match=r"'decoder\.final_layernorm\.weight.*Megatron-FSDP, wh"):
        ict.init_(model, plan, "local")
    del parameter.__fsdp_param__
    ict.init_(model, plan, "local")
    group = state.get_data_parallel_group()
    config: Any = model.config
    # Otherwise it shards the layers within layers that are sharded already.
    config.transformer_impl = "local"
    settings = DistributedDataParallelConfig()
    with pytest.MonkeyPatch.context() as patch:
        on_cpu = DeviceMesh.from_group(group, "cpu")
        patch.setattr(DeviceMesh, "from_group", lambda *a, **k: on_cpu)
        sharded = TorchFullyShardedDataParallel(config, settings, model)
    assert all(isinstance(one, DTensor) for one in sharded.parameters())
    for act in (ict.plan, lambda model: ict.init_(model, plan, "local")):
        for given in (sharded, sharded.module):
            with pytest.raises(ic.PlanError, match=r"is a DTensor in a model of Megatron, whose"):
                act(given)
    state.destroy_model_parallel()


def main() -> None:
    with joined() as (_, world):
        for case in ALONE if world == 1 else TWO:
            print("RESULT", json.dumps(run(case)), flush=True)
        if world == 1:
            # Every optimizer of one process makes the same step.
            for case in ALONE[:2]:
                sharded = run(replace(case, is_sharded=True))
                assert sharded["same"], sharded
        else:
            other_wrappers()
            unknown_copies()


if __name__ == "__main__":
    sys.exit(main())
