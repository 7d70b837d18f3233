"""verify with names that are not compared: comparing nothing is no agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import initclient as ic
import pytest
import torch
from initclient.cli import main
from torch import nn

PLAN = ic.Plan({"fc.weight": ic.normal((4, 3)), "fc.bias": ic.ones((4,))}, seed=7)
ALL = r"nothing was compared: ignore \('\*'\) leaves out every tensor of the plan"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return ic.fetch_file(PLAN, tmp_path / "i.safetensors", target="local")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.register_buffer("steps", torch.zeros(()))


@pytest.fixture(params=["file", "arrays", "model"])
def held(request: pytest.FixtureRequest, file: Path) -> Any:
    if request.param == "file":
        return file
    if request.param == "arrays":
        return ic.fetch(PLAN, target="local")
    model = Model()
    model.load_state_dict(ic.fetch(PLAN, target="local", framework="torch"), strict=False)
    return model


def test_ignoring_everything_is_an_error(held: Any, source: str) -> None:
    with pytest.raises(ValueError, match=ALL):
        ic.verify(held, PLAN, target=source, ignore="*")


def test_a_part_with_no_tensor_of_the_plan_is_an_error(source: str) -> None:
    for what in ({}, {"other": ic.fetch(PLAN, target="local")["fc.bias"]}):
        with pytest.raises(ValueError, match="nothing was compared: no tensor of the plan is the"):
            ic.verify(what, PLAN, target=source, partial=True, ignore=["other", "fc.w*"])


def test_a_plan_of_no_tensors_agrees_with_no_arrays() -> None:
    assert ic.verify({}, {}, target="local").ok


def test_one_process_may_hold_nothing_that_is_compared() -> None:
    import initclient.torch as ict

    report = ict.verify(nn.Module(), PLAN, "local", partial=True, local=True)
    assert (report.agreed, report.left_out) == ((), ("fc.weight", "fc.bias"))


def test_a_glob_that_matches_nothing_is_a_warning(held: Any, source: str) -> None:
    with pytest.warns(
        ic.PlanWarning, match=r"ignore '\*\.inv_freq' has no effect: it matches no n"
    ):
        report = ic.verify(held, PLAN, target=source, ignore=["*.inv_freq", "fc.b*"])
    assert report.agreed == ("fc.weight",)


def test_a_glob_for_a_buffer_that_the_plan_lacks_has_an_effect() -> None:
    model = Model()
    model.load_state_dict(ic.fetch(PLAN, target="local", framework="torch"), strict=False)
    assert ic.verify(model, PLAN, target="local", ignore="steps").left_out == ("steps",)


def test_the_command_says_that_it_compared_nothing(
    file: Path, tmp_path: Path, capsys: Capture
) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(PLAN, plan)
    for flags in ([], ["--json"]):
        assert main(["verify", str(file), plan, "--ignore", "*", *flags]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("initclient: error: nothing was compared: ignore ('*') leaves")
    assert main(["verify", str(file), plan, "--ignore", "head.*"]) == 0
    assert "warning: ignore 'head.*' has no effect" in capsys.readouterr().err
