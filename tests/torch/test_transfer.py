"""A ResNet whose backbone comes from a checkpoint and whose head is fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from safetensors.torch import save_file
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

CONFIG = ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5, layer_type="basic"
)
pytestmark = pytest.mark.filterwarnings("ignore::initclient.PlanWarning")


@pytest.fixture
def backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A trained backbone, in the folder of checkpoints."""
    torch.manual_seed(0)
    model = ResNetModel(CONFIG)
    model(torch.randn(4, 3, 32, 32))  # so that the running statistics say something
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "resnet.safetensors")
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", str(tmp_path))
    return state


def transfer_plan(config: Any = CONFIG) -> ic.Plan:
    rules = [ict.rule("classifier.*.weight", ic.kaiming_normal)]
    plan = ict.record(ResNetForImageClassification, config).plan(seed=7, rules=rules)
    return ic.with_pretrained(plan, "resnet.safetensors", "resnet.*", rename={"resnet.": ""})


def test_each_part_comes_from_where_it_should(backbone: dict[str, torch.Tensor]) -> None:
    with torch.device("meta"):
        model = ResNetForImageClassification(CONFIG)
    plan = transfer_plan()
    ict.init_(model, plan, target="local", device="cpu")
    state = model.state_dict()
    for name, tensor in backbone.items():
        assert torch.equal(state[f"resnet.{name}"], tensor), name
    head = [name for name in state if not name.startswith("resnet.")]
    assert head == ["classifier.1.weight", "classifier.1.bias"]
    fresh = ic.fetch(plan.select(head), target="local")
    for name in head:
        assert torch.equal(state[name], torch.from_numpy(fresh[name]))
    assert state["resnet.embedder.embedder.normalization.num_batches_tracked"] == 1


def test_the_folder_may_be_an_argument(
    backbone: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INITSERVE_CHECKPOINTS")
    with torch.device("meta"):
        model = ResNetForImageClassification(CONFIG)
    plan = transfer_plan()
    with pytest.raises(ic.PlanError, match="needs a folder of checkpoints"):
        ict.init_(model, plan, target="local", device="cpu")
    # What cannot be made leaves the model as it was.
    assert all(parameter.is_meta for parameter in model.parameters())
    with pytest.raises(ValueError, match="initserver --checkpoints"):
        ict.init_(model, plan, target="127.0.0.1:1", device="cpu", checkpoints=tmp_path)
    ict.init_(model, plan, target="local", device="cpu", checkpoints=tmp_path)
    name = "embedder.embedder.convolution.weight"
    assert torch.equal(model.state_dict()[f"resnet.{name}"], backbone[name])
    assert ict.verify(model, plan, target="local", checkpoints=tmp_path).ok


def test_other_shapes_are_refused_by_name(backbone: dict[str, torch.Tensor]) -> None:
    wide: Any = ResNetConfig(**{**CONFIG.to_dict(), "embedding_size": 12})
    with torch.device("meta"):
        model = ResNetForImageClassification(wide)
    with pytest.raises(ic.PlanError, match=r"normalization\.weight': shape: is \[12\].*has \[8\]"):
        ict.init_(model, transfer_plan(wide), target="local", device="cpu")


def test_a_glob_or_a_beginning_that_fits_nothing_is_refused() -> None:
    plan = ic.Plan({"a.weight": ic.zeros((2,))})
    with pytest.raises(ic.PlanError, match=r"names: has 'b\.\*'"):
        ic.with_pretrained(plan, "x.safetensors", ["a.*", "b.*"])
    with pytest.raises(ic.PlanError, match=r"rename: has 'b\.'"):
        ic.with_pretrained(plan, "x.safetensors", rename={"b.": ""})


def test_the_longest_beginning_counts() -> None:
    plan = ic.Plan({name: ic.zeros((2,)) for name in ("m.a", "m.layer4.a", "n")})
    rename = {"m.": "", "m.layer4.": "stage4."}
    got = ic.with_pretrained(plan, "x.safetensors", rename=rename)
    assert [tensor.source for tensor in got.tensors.values()] == ["a", "stage4.a", None]
