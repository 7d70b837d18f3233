"""Plan files that are cut in the middle of a line: no server takes them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from initcore import Plan, dump_plan, ones
from initserver.config import Limits
from initserver.models import Models, polling

from tests.server.processes import wait_for

PLAN = Plan({"w": ones((40, 30)), "b": ones((5,))}, seed=7)
OTHER = PLAN.with_seed(8)


@pytest.fixture(autouse=True)
def callers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller gets what the look that it began finds, however busy the machine is."""
    monkeypatch.setattr(polling, "_OLDEST", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "models" / "acme" / "small"
    place.mkdir(parents=True)
    return place / "plan.yaml"


def models_of(path: Path) -> Models:
    return Models(str(path.parents[2]), Limits())


def digests(models: Models) -> list[str]:
    return [model.digest for model in models.all()]


def cut(plan: Plan) -> str:
    """The plan's file without its last newline: still a plan of the same values."""
    return plan.to_yaml().removesuffix("\n")


def test_a_cut_plan_is_not_served_at_the_start(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(cut(PLAN))
    assert digests(models_of(path)) == []
    assert f"the last line of {path} does not end, so the file may be half-written" in caplog.text
    dump_plan(PLAN, path)
    assert digests(models_of(path)) == [PLAN.digest]


def test_a_cut_plan_leaves_the_one_before_however_long_it_stays(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dump_plan(PLAN, path)
    models = models_of(path)
    path.write_text(cut(OTHER))
    # Longer than the time after which a file counts as settled.
    for _ in range(3):
        time.sleep(1.1)
        assert digests(models) == [PLAN.digest]
    assert "may be half-written; write it whole, with a newline at its end" in caplog.text
    dump_plan(OTHER, path)
    wait_for(lambda: digests(models) == [OTHER.digest])


def test_a_plan_in_braces_needs_no_newline_at_its_end(path: Path) -> None:
    path.write_text('{"seed": 7, "tensors": [{"name": "b", "shape": [5], "scheme": "ONES"}]}')
    assert digests(models_of(path)) == [Plan({"b": ones((5,))}, seed=7).digest]
