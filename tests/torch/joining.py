"""One rank of two that plan their stages together. Run by tests/torch/test_joining.py."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from initclient._plan import kept
from torch import nn

from tests.torch.launching import joined


class Net(nn.Module):
    """A model whose stages keep the names of the whole model."""

    embed: nn.Embedding | None
    head: nn.Linear | None
    norm: nn.LayerNorm | None

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8, padding_idx=3)
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(11)))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 12, bias=False)


RULES = [ict.rule("layers.*.weight", ic.orthogonal), ict.rule("head.weight", ic.zeros)]


def stage(rank: int, cut: slice | None = None) -> Net:
    """The first layers and the embedding, or the others."""
    with torch.device("meta"):
        net = Net()
    if rank == 0:
        net.layers, net.norm, net.head = net.layers[cut or slice(10)], None, None
    else:
        net.layers, net.embed = net.layers[cut or slice(10, None)], None
    return net


def whole() -> ic.Plan:
    with torch.device("meta"):
        return ict.plan(Net(), RULES, seed=7)


def equals_the_whole(rank: int) -> None:
    """Names, values, order and digest; no warning for a rule that one stage has no use for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = ict.plan(stage(rank), RULES, seed=7, join=True)
    assert plan == whole()
    assert plan.digest == whole().digest
    assert plan.to_yaml() == whole().to_yaml()
    model = stage(rank)
    ict.init_(model, plan, "local", device="cpu", partial=True)
    assert ict.verify(model, plan, "local").agreed == tuple(plan)


def interleaved(rank: int) -> None:
    """Each rank has every second layer, as with virtual stages."""
    plan = ict.plan(stage(rank, slice(rank, None, 2)), RULES, seed=7, join=True)
    assert plan == whole()


def recorded(rank: int) -> None:
    recording = ict.record(stage, rank)
    plan = recording.plan(seed=7, join=True)
    assert plan == ict.record(Net).plan(seed=7)
    assert plan.provenance["torch"] == torch.__version__


def another_rule(rank: int) -> None:
    """A tensor of both ranks with two plans is refused on both, by name."""
    rules = [ict.rule("weight", ic.normal, std=0.5 + rank)]
    words = r"'weight': std: is 0\.5 on rank 0 and 1\.5 on rank 1; give the same rules"
    with pytest.raises(ic.PlanError, match=words):
        ict.plan(nn.Linear(4, 4), rules, join=True)
    with pytest.raises(ic.PlanError, match=r"seed: is 0 on rank 0 and 1 on rank 1"):
        ict.plan(nn.Linear(4, 4), seed=rank, join=True)
    rules = [ict.rule("weight", ict.keep)] * rank
    with pytest.raises(
        ic.PlanError, match=r"'weight': keep: is kept on rank 1 and planned on rank 0"
    ):
        ict.plan(nn.Linear(4, 4), rules, join=True)


def an_error(rank: int) -> None:
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(2))}) if rank else nn.Linear(2, 2)
    words = "no rule covers this parameter"
    expected = (ic.PlanError, words) if rank else (ic.InitserveError, f"rank 1 has no .*{words}")
    with pytest.raises(expected[0], match=expected[1]):
        ict.plan(model, join=True)


def without_effect(rank: int) -> None:
    """A rule is without effect if it is on all ranks, and a glob matches nothing likewise."""
    rules = [ict.rule("head.*", ic.zeros), ict.rule("tail.*", ic.ones)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ict.plan(stage(rank), rules, join=True)
    assert [str(one.message) for one in caught] == [
        f"{rules[1]!r} has no effect: earlier rules match all of its parameters, or it matches none"
    ]
    plan = ict.plan(stage(rank), only=["embed.*", "head.*"], join=True)
    assert list(plan) == ["embed.weight", "head.weight"]
    assert set(kept(plan)) == set(whole()) - set(plan)
    with pytest.raises(ic.PlanError, match=r"only: has 'haed\.\*', which no parameter"):
        ict.plan(stage(rank), only=["embed.*", "haed.*"], join=True)


def counted_anew(rank: int) -> None:
    """Stages that number their layers from 0 would have one plan for two layers."""
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4)])})
    model["head" if rank else "embed"] = nn.Linear(4, 4)
    words = (
        r"rank 0 and rank 1 are different parts .* only rank 0 has embed\.bias, and both have la"
    )
    with pytest.warns(ic.PlanWarning, match=words):
        ict.plan(model, join=True)


def in_a_group(rank: int) -> None:
    groups = [dist.new_group([one]) for one in range(2)]
    plan = ict.plan(stage(rank), [], join=True, group=groups[rank])
    assert ("embed.weight" in plan) == (rank == 0)
    with pytest.raises(ValueError, match="give join=True too"):
        ict.plan(stage(rank), group=groups[rank])


WAYS: list[Callable[[int], Any]] = [
    equals_the_whole,
    interleaved,
    recorded,
    another_rule,
    an_error,
    without_effect,
    counted_anew,
    in_a_group,
]


def main() -> None:
    with joined() as (rank, _):
        for way in WAYS:
            way(rank)
        print(f"rank {rank}: {len(WAYS)} plans", flush=True)


if __name__ == "__main__":
    main()
