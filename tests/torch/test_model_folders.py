"""`initclient plan --out FOLDER`: a model folder, made whole or not at all."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import transformers
from initclient.cli import main
from initserver import Server, ServerConfig

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "tie_word_embeddings": False,
}
FILES = ["config.json", "generation_config.json", "plan.yaml", "tokenizer.json"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "generation_config.json").write_text('{"max_new_tokens": 5}')
    (folder / "blob").write_text("{}" * 1000)
    (folder / "tokenizer.json").symlink_to("blob")
    (folder / "notes.txt").write_text("no part of the model")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    (folder / "tokenizer.model").mkdir()
    return folder


def made(source: Path, out: str, *more: str) -> int:
    return main(["plan", "--model", str(source), "--seed", "7", "--out", out, *more])


def test_a_folder_holds_the_plan_and_what_belongs_to_the_model(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models" / "acme").mkdir(parents=True)
    out = tmp_path / "models" / "acme" / "small"
    assert made(source, f"{out}/") == 0
    said = capsys.readouterr().out
    names = "config.json, generation_config.json, tokenizer.json, plan.yaml"
    assert said == f"wrote {out}: 12 tensors ({names})\n"
    assert sorted(os.listdir(out)) == FILES
    assert not any(path.is_symlink() for path in out.iterdir())
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (source / name).read_bytes()
    config = transformers.LlamaConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"})
    plan = ict.record(transformers.LlamaForCausalLM, config).plan(seed=7)
    assert ic.load_plan(out / "plan.yaml") == plan
    # A server has it by name.
    settings = ServerConfig(
        listen="127.0.0.1:0", backend="numpy", grace=0, models=str(tmp_path / "models")
    )
    with Server(settings) as server:
        (model,) = ic.list_models(target=server.address)
    assert (model.name, model.digest) == ("acme/small", plan.digest)


def test_a_config_of_another_name_and_a_folder_that_is_there(source: Path, tmp_path: Path) -> None:
    (source / "config.json").rename(source / "tiny.json")
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("kept")
    assert made(source / "tiny.json", str(out)) == 0
    assert sorted(os.listdir(out)) == ["README.md", *FILES]
    assert json.loads((out / "config.json").read_text()) == CONFIG


def test_the_folder_of_the_config_itself(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(source, str(source)) == 0
    assert capsys.readouterr().out == f"wrote {source}: 12 tensors (plan.yaml)\n"
    assert made(source, str(source)) == 0
    assert "every file was there" in capsys.readouterr().out


def test_a_checkpoint_and_a_function_have_folders_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ic.Plan({"h.0.attn.c_proj.weight": ic.ones((3, 2)), "ln_f.weight": ic.ones((2,))})
    ic.fetch_file(plan, source / "model.safetensors", target="local")
    recipe = ["--recipe", "gpt2", "--set", "layers=1"]
    assert main(["plan", str(source), *recipe, "--out", f"{tmp_path}/gpt/"]) == 0
    assert sorted(os.listdir(tmp_path / "gpt")) == FILES
    (tmp_path / "nets_in_folders.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Linear(3, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert main(["plan", "--model", "nets_in_folders:make", "--out", "net/"]) == 0
    assert os.listdir(tmp_path / "net") == ["plan.yaml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plan.yaml", "plan.yaml is there with another plan"),
        ("tokenizer.json", "tokenizer.json is there with another content"),
        ("model-00001-of-00002.safetensors", "holds the weights model-00001-of-00002"),
    ],
)
def test_what_would_be_overwritten_is_refused_and_nothing_written(
    name: str, message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    assert made(source, str(out)) == 1
    assert message in capsys.readouterr().err
    assert os.listdir(out) == [name]
    assert (out / name).read_text() == "mine"


def test_another_seed_is_another_plan(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert made(source, f"{out}/") == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert made(source, str(out), "--seed", "8") == 1
    assert "is there with another plan" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX's")
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_on_the_way_leaves_nothing(exists: bool, source: Path, tmp_path: Path) -> None:
    (source / "blob").write_text("x" * 100_000)
    place = tmp_path / "models"
    place.mkdir()
    if exists:
        (place / "out").mkdir()
    arguments = ["plan", "--model", str(source), "--out", str(place / "out") + "/"]
    # 32 KiB a file: the config is written, the tokenizer is not.
    command = f"ulimit -f 32; exec {shlex.join([sys.executable, '-m', 'initclient', *arguments])}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert f"{place}/out/tokenizer.json: File too large" in done.stderr
    assert [str(path.relative_to(place)) for path in place.rglob("*")] == ["out"] * exists


def test_a_place_that_cannot_hold_a_folder(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(source, f"{tmp_path}/none/small/") == 1
    assert f"the folder {tmp_path}/none of" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert made(source, f"{tmp_path}/file/") == 1
    assert "is a file; give the name of a folder" in capsys.readouterr().err
