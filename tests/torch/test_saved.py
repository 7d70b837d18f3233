"""verify of folders of torch.distributed.checkpoint."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from enum import Enum
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed.checkpoint as dcp
from initclient.cli import main
from torch import nn
from torch.distributed.checkpoint.metadata import Metadata

# dcp.save says that this process saves alone.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def net() -> nn.Module:
    model = nn.Sequential(nn.Embedding(50, 16), nn.LayerNorm(16), nn.Linear(16, 8))
    return model.to(torch.bfloat16)


@pytest.fixture(scope="module")
def plan() -> ic.Plan:
    return ict.plan(net(), seed=7)


@pytest.fixture(scope="module")
def folder(plan: ic.Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = net()
    ict.init_(model, plan, target="local")
    found = tmp_path_factory.mktemp("saved")
    dcp.save(model.state_dict(), checkpoint_id=found / "own", no_dist=True)
    optimizer = {"step": torch.tensor(3), "lr": 0.1}
    state = {"model": model.state_dict(), "optim": optimizer}
    dcp.save(state, checkpoint_id=found / "all", no_dist=True)
    return found


def test_a_model_alone_and_one_below_a_prefix_agree(
    folder: Path, plan: ic.Plan, source: str
) -> None:
    whole = ic.verify(folder / "own", plan, target=source)
    assert whole.agreed == tuple(plan)
    below = ic.verify(folder / "all", plan, target=source, prefix="model")
    assert (below.agreed, below.fingerprints) == (whole.agreed, whole.fingerprints)
    assert ic.Local().verify(str(folder / "all"), plan, prefix="model").ok


def test_without_the_prefix_the_report_names_it(folder: Path, plan: ic.Plan) -> None:
    with pytest.raises(ic.VerificationError, match="give prefix='model'") as caught:
        ic.verify(folder / "all", plan, target="local")
    assert {m.kind for m in caught.value.report.mismatches} == {"missing", "unexpected"}
    with pytest.raises(ValueError, match=r"no name begins with the prefix 'net'; .* model, optim"):
        ic.verify(folder / "all", plan, target="local", prefix="net")


def test_one_other_bit_is_found_and_located(folder: Path, plan: ic.Plan, tmp_path: Path) -> None:
    model = net()
    ict.init_(model, plan, target="local")
    with torch.no_grad():
        model[2].weight.view(torch.int16)[3, 5] ^= 1
    dcp.save(model.state_dict(), checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(tmp_path, plan, target="local")
    (wrong,) = caught.value.report.mismatches
    assert wrong.name == "2.weight"
    assert "1 of 128 elements differ, the first at [3, 5]" in wrong.message
    with pytest.raises(ic.VerificationError):
        ic.verify(folder / "own", plan, target="local", seed=8)


def test_the_command_takes_them(
    folder: Path, plan: ic.Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    ic.dump_plan(plan, path)
    assert main(["verify", str(folder / "all"), str(path), "--prefix", "model"]) == 0
    assert "5 tensors agree" in capsys.readouterr().out
    assert main(["verify", str(folder / "all"), str(path)]) == 1
    assert "prefix" in capsys.readouterr().err


class Evil:
    """A pickle that would make a file, as any pickle can."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_no_code_of_the_folder_runs(plan: ic.Plan, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil(trap)))
    with pytest.raises(ValueError, match=r"mkdir does not belong in there"):
        ic.verify(tmp_path, plan, target="local")
    assert not trap.exists()
    for content in (b"", b"garbage", pickle.dumps({})):
        (tmp_path / ".metadata").write_bytes(content)
        with pytest.raises(ValueError, match=r"not metadata of torch\.distributed"):
            ic.verify(tmp_path, plan, target="local")


class Getattr:
    """A pickle that would take an attribute."""

    def __init__(self, of: object, name: str) -> None:
        self.of, self.name = of, name

    def __reduce__(self) -> tuple[object, tuple[object, str]]:
        return getattr, (self.of, self.name)


class WithGetattr(pickle._Pickler):  # type: ignore[name-defined]
    """Pickles the members of enumerations as Python 3.11.2 does."""

    def reducer_override(self, one: object) -> object:
        if isinstance(one, Enum):
            return getattr, (type(one), one.name)
        return NotImplemented


def test_metadata_of_a_python_that_pickles_enumerations_by_getattr_are_read(
    folder: Path, plan: ic.Plan, tmp_path: Path
) -> None:
    copied = shutil.copytree(folder / "own", tmp_path / "copied")
    metadata = pickle.loads((copied / ".metadata").read_bytes())
    written = io.BytesIO()
    WithGetattr(written).dump(metadata)
    assert b"getattr" in written.getvalue()
    (copied / ".metadata").write_bytes(written.getvalue())
    assert ic.verify(copied, plan, target="local").ok


@pytest.mark.parametrize(
    ("of", "name"), [(Metadata, "__init__"), (Metadata, "__class__"), (torch.float32, "to_complex")]
)
def test_no_other_attribute_is_taken(of: object, name: str, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Getattr(of, name)))
    with pytest.raises(ValueError, match=r"does not belong in there"):
        ic.verify(tmp_path, {"w": ic.zeros((2,))}, target="local")


def test_a_folder_that_lacks_a_part_is_refused(folder: Path, plan: ic.Plan, tmp_path: Path) -> None:
    (metadata,) = (folder / "own").glob(".metadata")
    (tmp_path / ".metadata").write_bytes(metadata.read_bytes())
    with pytest.raises(OSError, match="distcp"):
        ic.verify(tmp_path, plan, target="local")


def test_modules_have_no_prefix(plan: ic.Plan) -> None:
    with pytest.raises(ValueError, match="prefix is 'model', which is for files"):
        ic.verify(net(), plan, target="local", prefix="model")
