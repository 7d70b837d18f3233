"""The command `initclient` overwrites no file that it reads, and drops no part of a name."""

from __future__ import annotations

import os
from pathlib import Path

import initclient as ic
import pytest
from initclient.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    ic.dump_plan({"h.0.c_proj.weight": ic.ones((8, 8))}, path)
    return path


@pytest.fixture
def trained(plan: Path, tmp_path: Path) -> Path:
    return ic.fetch_file(plan, tmp_path / "t.safetensors", target="local")


@pytest.mark.parametrize("command", ["fetch", "plot"])
@pytest.mark.parametrize("kind", ["same", "other spelling", "symbolic link", "hard link"])
def test_the_plan_is_not_overwritten_under_any_of_its_names(
    command: str, kind: str, plan: Path, tmp_path: Path, capsys: Capture
) -> None:
    before, out = plan.read_bytes(), str(plan)
    if kind == "other spelling":
        out = f"{tmp_path}/./{plan.name}"
    if kind == "symbolic link":
        out = str(tmp_path / "link.yaml")
        os.symlink(plan, out)
    if kind == "hard link":
        out = str(tmp_path / "link.yaml")
        os.link(plan, out)
    assert main([command, str(plan), "-o", out]) == 2
    told = capsys.readouterr().err
    assert told == f"initclient: error: {plan} is the plan itself; give another name to --out\n"
    assert plan.read_bytes() == before


def test_the_plan_may_stand_beside_the_output(plan: Path, tmp_path: Path) -> None:
    assert main(["fetch", str(plan), "-o", str(tmp_path), "--shard-size", "1GB", "-q"]) == 0
    assert main(["plot", str(plan), "-o", str(tmp_path / "p.html"), "-q"]) == 0


def test_a_trained_checkpoint_is_not_overwritten_by_its_plan(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = trained.read_bytes()
    for file in (trained, tmp_path):
        assert main(["plan", str(file), "--recipe", "gpt2", "-o", str(trained)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"initclient: error: {trained} is the checkpoint itself; ")
        assert trained.read_bytes() == before


def test_no_shard_of_a_checkpoint_is_overwritten_by_its_plan(plan: Path, tmp_path: Path) -> None:
    two = {"a": ic.ones((400,)), "b": ic.ones((400,))}
    folder = ic.fetch_file(two, tmp_path / "model", target="local", shard_size=2000)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 3
    index = str(folder / "model.safetensors.index.json")
    for path in before:
        for file in (index, str(folder)):
            assert main(["plan", file, "--recipe", "gpt2", "-o", str(path)]) == 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_recipe_of_ones_own_is_not_overwritten(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("rules:\n")
    assert main(["plan", str(trained), "--recipe", str(own), "-o", str(own)]) == 2
    assert f"{own} is the recipe itself" in capsys.readouterr().err
    assert own.read_text() == "rules:\n"


def test_a_config_is_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    assert main(["plan", "--model", str(tmp_path), "-o", str(config)]) == 2
    assert f"{config} is the config itself" in capsys.readouterr().err
    assert config.read_text() == "{}"


@pytest.mark.parametrize("command", ["fetch {} -o {}", "describe {}", "plot {} -o {}"])
def test_an_empty_digest_of_a_model_is_an_error_not_the_model_as_it_is(
    command: str, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert main([part.format("model:acme/small@", out) for part in command.split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith("initclient: error: digest is ''; it must have 64 hexadecimal digits")
    assert not out.exists()
