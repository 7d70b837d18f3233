"""The plans that examples and recipes build stay what they are; those of pages in test_pages.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient import recipes
from torch import nn

from tests import digests
from tests.digests import ROOT

EXAMPLES = {path.name: path for path in (ROOT / "examples").glob("*.py")}
# Of the launchers, those that this environment has; tests/launchers runs all examples.
LAUNCHERS = {f"launchers/{p.name}": p for p in (ROOT / "examples" / "launchers").glob("*.py")}
HERE = ("launchers/accelerate_ddp.py", "launchers/transformers_trainer.py")
EXAMPLES |= {name: LAUNCHERS[name] for name in HERE}
# Its plan is small-gpt.yaml.
DEMO = "demo.py"
RANKS = {"torch_fsdp2.py": 2, "torch_fsdp2_tp.py": 4, "torch_accelerate.py": 2}
RANKS |= dict.fromkeys(HERE, 1)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {DEMO}))
def test_an_example_builds_the_plan_that_it_did(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command = [*launcher, str(RANKS[name])] if name in RANKS else []
    command += [digests.__file__, str(EXAMPLES[name]), str(out)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": path, "INITSERVE_TARGET": "local"}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found
    digests.check(f"examples/{name}", found)


def test_plan_files_are_the_plans_that_they_were() -> None:
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        plan = ic.load_plan(path)
        digests.check(f"examples/{path.name}", [["load_plan", plan.digest[:32]]])


class Block(nn.Module):
    """The names of one layer in the libraries that the recipes are from."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.LayerNorm = nn.LayerNorm(width)
        self.attention_norm = nn.LayerNorm(width)
        for name in ("c_attn", "c_proj", "q_proj", "k_proj", "v_proj", "o_proj", "out_proj"):
            setattr(self, name, nn.Linear(width, width))
        for name in ("wq", "wk", "wv", "wo", "linear_proj", "linear_qkv"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        for name in ("fc1", "gate_proj", "up_proj", "w1", "w3", "linear_fc1"):
            setattr(self, name, nn.Linear(width, 2 * width))
        for name in ("fc2", "down_proj", "w2", "linear_fc2"):
            setattr(self, name, nn.Linear(2 * width, width))


class Model(nn.Module):
    """Language models, by their names."""

    def __init__(self, width: int = 8, layers: str = "layers") -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(32, width, padding_idx=1)
        setattr(self, layers, nn.ModuleList(Block(width) for _ in range(3)))
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, 32, bias=False)


class BothHalves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Model(), Model()


class Kinds(nn.Module):
    """Every kind of layer that recipes know by its class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 8, 3)
        self.conv2 = nn.Conv2d(4, 8, 3, groups=2)
        self.conv3 = nn.Conv3d(4, 8, 3)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(8), nn.BatchNorm2d(8), nn.BatchNorm3d(8)
        self.group, self.layer = nn.GroupNorm(2, 8), nn.LayerNorm(8)
        self.fc = nn.Linear(8, 6)


class All(Kinds):
    """Those that torch has and papers do not speak of, too."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 8, 3)
        self.bilinear = nn.Bilinear(4, 5, 6)
        self.embedding = nn.Embedding(16, 4, padding_idx=2)
        self.bag = nn.EmbeddingBag(16, 4)
        self.lstm = nn.LSTM(4, 6, proj_size=2)
        self.gru, self.rnn = nn.GRU(4, 6), nn.RNN(4, 6)
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        self.transformer = nn.Transformer(8, 2, 1, 1, 8, batch_first=True)
        self.slopes = nn.PReLU(3)


class Vision(nn.Module):
    """The names of timm's and transformers' ViT."""

    def __init__(self, positions: str) -> None:
        super().__init__()
        setattr(self, positions, nn.Parameter(torch.zeros(1, 5, 8)))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 8, 4)})
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "bert": (Model, {}),
    "deepnorm": (Model, {}),
    "deepnorm_encoder_decoder": (BothHalves, {"encoder_layers": 3, "decoder_layers": 3}),
    "gpt2": (lambda: Model(layers="h"), {}),
    "llama": (Model, {}),
    "llama_transformers": (Model, {}),
    "megatron": (Model, {}),
    "mup": (lambda: Model(16), {"base_shapes": Model(8)}),
    "torch": (All, {}),
    "vit": (lambda: Vision("pos_embed"), {}),
    "vit_transformers": (lambda: Vision("position_embeddings"), {}),
}


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
@pytest.mark.filterwarnings("ignore:recipe .* repeats what:FutureWarning")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_builds_the_plan_that_it_did(name: str) -> None:
    build, arguments = MODELS.get(name, (Kinds, {}))
    plan = ict.plan(build(), recipe=name, recipe_arguments=arguments, seed=7)
    digests.check(f"recipe {name}", [["ict.plan", plan.digest[:32]]])


def test_the_table_has_nothing_that_is_gone() -> None:
    pages = {f"{folder}/{p.name}" for folder in ("docs", ".") for p in (ROOT / folder).glob("*.md")}
    known = {name.removeprefix("./") for name in pages}
    known |= {f"examples/{path.name}" for path in (ROOT / "examples").iterdir()}
    known |= {f"examples/{name}" for name in LAUNCHERS}
    known |= {f"recipe {name}" for name in recipes.names()}
    assert set(json.loads(digests.TABLE.read_text())) <= known


def test_every_example_of_a_launcher_has_its_plan_in_the_table() -> None:
    table = json.loads(digests.TABLE.read_text())
    assert len(LAUNCHERS) > 9
    for name in LAUNCHERS:
        # The last one is the plan that fills the model.
        assert table[f"examples/{name}"][-1][1] != "refused", name


def test_a_change_is_answered_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRITE_DIGESTS", raising=False)
    (call, digest), *rest = json.loads(digests.TABLE.read_text())["examples/torch_model.py"]
    changed = [[call, digest[::-1]], *rest]
    with pytest.raises(AssertionError, match=r"list it in CHANGELOG\.md, with the spelling that"):
        digests.check("examples/torch_model.py", changed)
    with pytest.raises(AssertionError, match="has other calls than"):
        digests.check("examples/torch_model.py", rest)


def test_calls_of_code_are_noted_in_order() -> None:
    notes = digests.Notes()
    code = "plan = ic.Plan({'w': ic.zeros((2,))}).with_seed(3)\nic.zeros((-1,))\nlen('a')"
    exec(notes.compile(code, "code"), {"ic": ic, digests.NOTE: notes.note})
    assert [call for call, _ in notes.found] == [
        "ic.zeros((2,))",
        "ic.Plan({'w': ic.zeros((2,))})",
        "ic.Plan({'w': ic.zeros((2,))}).with_seed(3)",
        "ic.zeros((-1,))",
    ]
    assert notes.found[1][1] == ic.Plan({"w": ic.zeros((2,))}).digest[:32]
    assert notes.found[2][1] != notes.found[1][1]
    assert notes.found[3][1] == "refused"
