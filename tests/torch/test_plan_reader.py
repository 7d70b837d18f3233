"""torch.distributed.checkpoint reads a plan as if it were a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.planner import ReadItem

from tests.server.processes import running
from tests.torch.checkpoint_ranks import Net, plan_of
from tests.torch.launching import run_ranks

# What torch says of a load in one process.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

LAYOUTS = {2: "2 x 1", 3: "3 x 1", 4: "2 x 2"}


@pytest.mark.parametrize("world", LAYOUTS)
def test_each_rank_reads_its_own_part(world: int, tmp_path: Path) -> None:
    module, folder = "tests.torch.checkpoint_ranks", tmp_path / "models" / "acme" / "net"
    folder.mkdir(parents=True)
    ic.dump_plan(plan_of(Net()), folder / "plan.yaml")
    with running("--models", str(tmp_path / "models")) as server:
        outputs = run_ranks(module, world, tmp_path / "rendezvous", SERVER=server.address)
    for rank, (status, text) in enumerate(outputs):
        assert status == 0, text
        assert f"rank {rank}: {LAYOUTS[world]} holds the plan" in text


class Tied(nn.Module):
    """A tie, a buffer of whole numbers, a scalar, an empty parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.zeros(()))
        self.none = nn.Parameter(torch.zeros(0, 4))


def planned(model: nn.Module) -> ic.Plan:
    return ict.plan(model, [ict.rule("scale", ic.normal), ict.rule("none", ic.normal)], seed=3)


def load(model: nn.Module, plan: ic.Plan, **options: object) -> None:
    reader = ict.PlanReader(plan, "local", **options)  # type: ignore[arg-type]
    dcp.load(model.state_dict(), storage_reader=reader, no_dist=True)


def test_a_state_dict_gets_the_values_of_init() -> None:
    model, other = Tied(), Tied()
    plan = planned(model)
    steps: list[tuple[int, int]] = []
    load(model, plan, progress=lambda done, total: steps.append((done, total)))
    ict.init_(other, plan, target="local")
    for name, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    # A tied tensor counts once.
    unique = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    total = sum(tensor.nbytes for tensor in unique.values())
    assert steps[-1] == (total, total)


def test_autograd_learns_of_new_values() -> None:
    model = nn.Linear(3, 2)
    loss = (model.weight**2).sum()
    load(model, ict.plan(model, seed=1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_memory_that_is_not_contiguous() -> None:
    model = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    plan = ict.plan(model, seed=2)
    load(model, plan)
    assert ict.verify(model, plan)


def test_a_part_of_the_plan() -> None:
    model = Tied()
    plan = planned(model)
    head = {"head.weight": torch.empty(5, 4)}
    dcp.load(head, storage_reader=ict.PlanReader(plan, "local"), no_dist=True)
    assert torch.equal(
        head["head.weight"], torch.from_numpy(ic.fetch(plan.select(head))["head.weight"])
    )


def test_another_element_type_is_refused() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    plan = ict.plan(model, seed=1)
    model.bias.data = model.bias.data.double()
    with pytest.raises(CheckpointException, match="'bias': dtype: is F32 in the plan and F64"):
        load(model, plan)
    assert torch.equal(model.weight, before)


def test_tied_memory_with_different_values_is_refused() -> None:
    model = Tied()
    plan = planned(model)
    apart = ic.Plan({**plan.tensors, "head.weight": ic.normal((5, 4), stream="other")}, 3)
    with pytest.raises(CheckpointException, match=r"shares its memory with 'embed.weight'"):
        load(model, apart)


SQUARES = ic.Plan({"a": ic.normal((4, 4)), "b": ic.normal((4, 4)), "c": ic.normal((2, 4))}, 3)


def shared(make: Callable[[torch.Tensor], dict[str, torch.Tensor]], words: str) -> None:
    """The state dict is refused, and nothing is written."""
    memory = torch.full((4, 4), 5.0)
    with pytest.raises(CheckpointException, match=words):
        dcp.load(make(memory), storage_reader=ict.PlanReader(SQUARES, "local"), no_dist=True)
    assert memory.eq(5).all()


def test_memory_that_one_write_would_overwrite_is_refused() -> None:
    shared(lambda x: {"a": x, "b": x.t()}, "'b': storage: shares its memory with 'a'")
    shared(lambda x: {"a": x, "c": x[:2]}, "shares its memory with")
    shared(lambda x: {"a": x, "c": x[2:]}, "'c': storage: shares its memory with 'a'")
    shared(lambda x: {"a": x[:1].expand(4, 4)}, "'a': strides: has several elements at one")


def test_parts_of_one_allocation_are_filled() -> None:
    whole = torch.zeros(4, 12)
    state = {"a": whole[:, :4], "b": whole[:, 4:8], "c": whole[:2, 8:]}
    dcp.load(state, storage_reader=ict.PlanReader(SQUARES, "local"), no_dist=True)
    for name, value in ic.fetch(SQUARES, target="local").items():
        assert torch.equal(state[name], torch.from_numpy(value)), name


def test_names_and_shapes_that_differ_are_refused() -> None:
    plan = ict.plan(nn.Linear(3, 2), seed=1)
    with pytest.raises(CheckpointException, match="Size mismatch"):
        load(nn.Linear(4, 2), plan)
    with pytest.raises(CheckpointException, match=r"Missing key .*: 0\.bias"):
        load(nn.Sequential(nn.Linear(3, 2)), plan)


def test_a_planner_that_leaves_a_tensor_on_meta_is_refused() -> None:
    class Lazy(DefaultLoadPlanner):
        def resolve_tensor(self, item: ReadItem) -> torch.Tensor:
            return super().resolve_tensor(item).to("meta")

    model = nn.Linear(3, 2)
    reader = ict.PlanReader(ict.plan(model, seed=1), "local")
    with pytest.raises(CheckpointException, match="on the meta device"):
        dcp.load(model.state_dict(), storage_reader=reader, planner=Lazy(), no_dist=True)


def test_a_wrong_plan_is_refused_at_once() -> None:
    with pytest.raises(ic.PlanError, match="std"):
        ict.PlanReader({"weight": ic.normal((2,), std=-1.0)}, "local")


def test_a_checkpoint_beside_the_plan_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    reader = ict.PlanReader(ict.plan(model, seed=1), "local")
    with pytest.raises(ValueError, match=r"checkpoint_id is '.*step-100'.*leave checkpoint_id out"):
        dcp.load(
            model.state_dict(),
            storage_reader=reader,
            checkpoint_id=os.fspath(tmp_path / "step-100"),
            no_dist=True,
        )


def test_a_server_that_is_gone_is_named() -> None:
    model = nn.Linear(3, 2)
    retry = ic.Retry(attempts=1)
    reader = ict.PlanReader(ict.plan(model, seed=1), "127.0.0.1:1", retry=retry, timeout=20)
    with pytest.raises(CheckpointException, match=r"127\.0\.0\.1:1"):
        dcp.load(model.state_dict(), storage_reader=reader, no_dist=True)
