"""Plans that take values from checkpoints, made in this process: the folder is an argument."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient.cli import main
from safetensors.numpy import load_file, save_file

# That the bits are fixed only with a SHA-256.
pytestmark = pytest.mark.filterwarnings("ignore::initclient.PlanWarning")

BODY = np.arange(24, dtype=np.float32).reshape(6, 4)
PLAN = ic.Plan(
    {
        "body.weight": ic.pretrained((6, 4), "trained/backbone.safetensors", source="w"),
        "head.weight": ic.kaiming_normal((10, 6)),
    },
    7,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a trained backbone."""
    (tmp_path / "models" / "trained").mkdir(parents=True)
    save_file({"w": BODY}, tmp_path / "models" / "trained" / "backbone.safetensors")
    return tmp_path / "models"


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    return str(tmp_path / "plan.yaml")


def test_fetch_takes_values_from_the_folder(folder: Path) -> None:
    fresh = ic.fetch(PLAN.select(["head.weight"]))["head.weight"]
    for found in (
        ic.fetch(PLAN, checkpoints=folder),
        asyncio.run(aio.fetch(PLAN, checkpoints=str(folder))),
    ):
        assert np.array_equal(found["body.weight"], BODY)
        assert np.array_equal(found["head.weight"], fresh)


def test_files_and_shards_take_values_from_the_folder(folder: Path, tmp_path: Path) -> None:
    ic.fetch_file(PLAN, tmp_path / "one", checkpoints=folder)
    asyncio.run(aio.fetch_file(PLAN, tmp_path / "two", checkpoints=folder))
    ic.fetch_file(PLAN, tmp_path / "several", shard_size=100, checkpoints=folder)
    assert np.array_equal(load_file(tmp_path / "one")["body.weight"], BODY)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert ic.verify(tmp_path / "several", PLAN, checkpoints=folder).ok


def test_the_argument_comes_before_the_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", "/nowhere")
    assert np.array_equal(ic.fetch(PLAN, checkpoints=folder)["body.weight"], BODY)
    with pytest.raises(ic.CheckpointError, match="/nowhere, does not exist"):
        ic.fetch(PLAN)
    # A plan that takes nothing asks for no folder; one that was named has to be there.
    head = PLAN.select(["head.weight"])
    assert ic.fetch(head)
    with pytest.raises(ic.CheckpointError, match="/else, does not exist"):
        ic.fetch(head, checkpoints="/else")


def test_verify_holds_arrays_against_the_folder(folder: Path) -> None:
    weights = ic.fetch(PLAN, checkpoints=folder)
    assert ic.verify(weights, PLAN, checkpoints=folder).agreed == ("body.weight", "head.weight")
    weights["body.weight"][5, 3] += 1
    with pytest.raises(ic.VerificationError, match=r"1 of 24 elements differ, the first at \[5, 3"):
        ic.verify(weights, PLAN, checkpoints=folder)


def test_fingerprints_are_those_of_the_folder_s_values(folder: Path) -> None:
    found = ic.describe(PLAN, fingerprints=True, checkpoints=folder)
    assert found == asyncio.run(aio.describe(PLAN, fingerprints=True, checkpoints=folder))
    assert found.tensors[0].fingerprint == str(ic.fingerprint("body.weight", BODY))


def test_describe_says_whether_the_checkpoint_has_what_the_plan_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ic.describe(PLAN).checkpoints is None
    assert ic.describe(PLAN, checkpoints=folder).checkpoints == str(folder)
    assert asyncio.run(aio.describe(PLAN, checkpoints=folder)).checkpoints == str(folder)
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", str(folder))
    assert ic.describe(PLAN).checkpoints == str(folder)
    assert ic.describe(PLAN.select(["head.weight"])).checkpoints is None


def wrong(**changes: object) -> ic.Plan:
    arguments = {"checkpoint": "trained/backbone.safetensors", "source": "w", **changes}
    shape = arguments.pop("shape", (6, 4))
    return ic.Plan({"body.weight": ic.pretrained(shape, **arguments)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (wrong(shape=(4, 6)), r"shape: is \[4, 6\].* has \[6, 4\]"),
        (wrong(dtype="bfloat16"), r"dtype: is BF16.* has F32"),
        (wrong(source="v"), r"source: is 'v', which .*backbone.safetensors does not have"),
        (wrong(checkpoint="other.safetensors"), "no such file among the checkpoints"),
        (wrong(sha256="0" * 64), "sha256: is 0000"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_told_before_anything_is_made(
    plan: ic.Plan, text: str, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for call in (
        lambda: ic.describe(plan, checkpoints=folder),
        lambda: ic.fetch(plan, checkpoints=folder),
        lambda: ic.fetch_file(plan, out / "file", checkpoints=folder),
        lambda: asyncio.run(aio.fetch_file(plan, out / "file", checkpoints=folder)),
    ):
        with pytest.raises(ic.PlanError, match=f"body.weight': .*{text}"):
            call()
    assert not list(out.iterdir())


def test_a_sha256_that_fits_is_accepted(folder: Path) -> None:
    digest = hashlib.sha256((folder / "trained" / "backbone.safetensors").read_bytes()).hexdigest()
    assert ic.describe(wrong(sha256=digest), checkpoints=folder).checkpoints


def test_servers_have_a_folder_of_their_own(folder: Path, target: str) -> None:
    for call in (ic.fetch, ic.describe):
        with pytest.raises(ValueError, match=r"initserver --checkpoints.*--target local"):
            call(PLAN, target=target, checkpoints=folder)


def test_the_commands_take_the_folder(
    folder: Path, plan_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = str(tmp_path / "out.safetensors"), ["--checkpoints", str(folder)]
    assert main(["fetch", plan_file, "--out", out, *given]) == 0
    assert np.array_equal(load_file(out)["body.weight"], BODY)
    assert main(["verify", out, plan_file, *given]) == 0
    capsys.readouterr()
    assert main(["describe", plan_file, *given]) == 0
    assert f"checkpoints: all that the plan takes is in {folder}" in capsys.readouterr().out
    assert main(["describe", plan_file, "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoints"] == str(folder)


def test_the_commands_say_what_is_missing(
    plan_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.safetensors")
    assert main(["fetch", plan_file, "--out", out]) == 2
    assert "needs a folder of checkpoints" in capsys.readouterr().err
    assert main(["fetch", plan_file, "--out", out, "--checkpoints", "/nowhere"]) == 2
    assert "/nowhere, does not exist" in capsys.readouterr().err
    arguments = ["--checkpoints", "/nowhere", "--target", "127.0.0.1:1"]
    assert main(["fetch", plan_file, "--out", out, *arguments]) == 2
    assert "--target local" in capsys.readouterr().err
