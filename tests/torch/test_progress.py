"""progress=True of init_, verify and PlanReader: one bar, of the process of rank 0."""

from __future__ import annotations

from collections.abc import Iterator

import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from initclient._machine import progress as _progress
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

# dcp.load says that this process loads alone.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "_LINES", 0.0)


@pytest.fixture(params=[0, 1])
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    """One of two processes, which communicate with nobody."""
    dist.init_process_group("fake", rank=request.param, world_size=2, store=FakeStore())
    yield request.param
    dist.destroy_process_group()


def test_another_value_is_refused_before_anything_is_filled() -> None:
    model = nn.Linear(64, 64)
    plan = ict.plan(model, seed=7)
    before = model.weight.clone()
    with pytest.raises(TypeError, match="progress is 3; give True"):
        ict.init_(model, plan, "local", progress=3)  # type: ignore[arg-type]
    assert torch.equal(model.weight, before)


def test_the_first_of_several_processes_draws_it(rank: int, capsys: Capture) -> None:
    model = nn.Linear(64, 64)
    plan = ict.plan(model, seed=7)
    ict.init_(model, plan, "local", agree=False, progress=True)
    told = capsys.readouterr().err
    assert ("init_: 16.2 KiB of 16.2 KiB (100 %), " in told) == (rank == 0)
    ict.verify(model, plan, "local", local=True, progress=True)
    assert ("verify: " in capsys.readouterr().err) == (rank == 0)
    reader = ict.PlanReader(plan, "local", progress=True)
    dcp.load(model.state_dict(), storage_reader=reader, no_dist=True)
    assert ("load: " in capsys.readouterr().err) == (rank == 0)
