"""The pages hold: their code runs, their commands are real, their links lead somewhere.

Code and commands run in an empty folder with a server beside it. What stands for something of the
reader's (an address, a model, a checkpoint, a vocabulary) stands for something small here.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
import torch.distributed.checkpoint as dcp
from initclient import aio, recipes
from initclient.cli import _parser as client_parser
from initclient.cli import main as initclient
from initcore.backends import _base
from initcore.plan.schemes import REQUIRED, SCHEMES
from initserver import Server, ServerConfig
from initserver.cli import _parser as server_parser
from initserver.config.flags import settings
from safetensors.numpy import save_file
from torch import nn

from tests import digests
from tests.torch.test_model_folders import CONFIG

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
}

# What their code takes as given is in the tests of its subject.
ELSEWHERE = {
    "docs/torch.md": "tests/torch/test_examples.py",
    "docs/jax.md": "tests/jax/test_examples.py",
    "docs/launchers.md": "tests/launchers/test_examples.py",
    "docs/tutorial.md": "tests/test_tutorial.py",
    "docs/coming-from.md": "tests/test_coming_from.py",
}
# Programs of others: they may be missing, want a cluster or root, or would change the machine.
OF_OTHERS = {
    "apt-get",
    "buildah",
    "c=$",
    "cosign",
    "debootstrap",
    "docker",
    "helm",
    "jq",
    "kubectl",
}
OF_OTHERS |= {"cmp", "cp", "cut", "echo", "hf", "mkdir", "openssl", "printf", "umask", "vllm"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def pages_with(language: str) -> list[str]:
    return [page for page in PAGES if blocks(page, language)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(144, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.backbone(x))
        return out


class Projections(nn.Module):
    """Has the names that the recipe `gpt2` and the page's own one look at."""

    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ModuleList([nn.ModuleDict({"c_proj": nn.Linear(8, 8)})])
        self.layers = nn.ModuleList([nn.ModuleDict({"out_proj": nn.Linear(8, 8)})])
        self.lm_head = nn.Linear(8, 16, bias=False)


BATCH = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    (models / "acme" / "small").mkdir(parents=True)
    ic.dump_plan(ict.plan(Net(), seed=7), models / "acme" / "small" / "plan.yaml")
    (models / "acme" / "small" / "initserve.yaml").write_text("seeds: open\n")
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5, models=str(models))
    with Server(config) as server:
        yield server.address


@pytest.fixture
def plan() -> ic.Plan:
    return ict.plan(Net(), seed=7)


Here = Callable[[str], str]


@pytest.fixture
def here(tmp_path: Path, plan: ic.Plan, address: str, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Makes the folder that pages speak of; returns what puts this machine into their code."""
    for name in os.environ:
        if name.startswith("INITSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INITSERVE_BACKEND", "numpy")
    monkeypatch.chdir(tmp_path)
    for name in ("plan.yaml", "old.yaml", "new.yaml"):
        ic.dump_plan(plan, name)
    ic.fetch_file(plan, "init.safetensors")
    shapes = {"h.0.c_proj.weight": (8, 4), "h.0.norm.weight": (4,), "h.0.norm.bias": (4,)}
    Path("trained").mkdir()
    trained = {name: ic.ones(shape) for name, shape in shapes.items()}
    ic.fetch_file(trained, "trained/model.safetensors")
    save_file({"encoder.weight": np.ones((1024, 512), np.float32)}, "backbone.safetensors")
    Path("own.yaml").write_text(blocks("docs/recipes.md", "yaml")[0])
    Path("examples").symlink_to(ROOT / "examples")
    monkeypatch.setitem(sys.modules, "nets", SimpleNamespace(make=Net, batch=lambda: BATCH))
    reader = {
        **dict.fromkeys(("init.ml.svc:50051", "127.0.0.1:50051", "a:50051", "b:50051"), address),
        '"/models"': repr(str(tmp_path)),
        '"9f2c..."': repr(sha256(Path("backbone.safetensors").read_bytes()).hexdigest()),
        'device="cuda"': 'device="cpu"',
        "50257": "503",
    }

    def put(text: str) -> str:
        for theirs, ours in reader.items():
            text = text.replace(theirs, ours)
        return text

    return put


@pytest.mark.parametrize("page", [page for page in pages_with("python") if page not in ELSEWHERE])
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: str, plan: ic.Plan, here: Here, address: str
) -> None:
    model = Projections() if page == "docs/recipes.md" else Net()
    if page == "docs/verify.md":
        ict.init_(model, plan)
    notes = digests.Notes()
    names: dict[str, Any] = {
        digests.NOTE: notes.note,
        **{"ic": ic, "ict": ict, "aio": aio, "plan": plan, "weights": ic.fetch(plan)},
        **{"servers": [address], "model": model, "batch": BATCH},
        "params": ic.fetch(plan, framework="jax"),
        **{name: getattr(_base, name) for name in ("Job", "Runs", "NDArray")},
    }
    for number, block in enumerate(blocks(page, "python"), 1):
        title = f"{page}, block {number}"
        code = notes.compile(here(block), title, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    digests.check(page, [[call.replace(address, "SERVER"), one] for call, one in notes.found])


def test_the_tested_versions_of_launchers_are_those_that_are_installed() -> None:
    folder = ROOT / "tests" / "launchers"
    pinned = "".join((folder / name).read_text() for name in ("requirements.txt", "alone.txt"))
    versions = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", pinned, re.MULTILINE))
    page = (ROOT / "docs" / "launchers.md").read_text()
    table = page.partition("| tested version |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([^|]*?) \| ([^|]*?) \|", table, re.MULTILINE)
    assert len(rows) >= 16
    # Where the launcher's name does not begin with its package's.
    dists = {
        "plain torch": "torch",
        "fsdp2, tensor": "torch",
        "pipeline": "torch",
        "hugging face trainer": "transformers",
        "ray train": "ray",
        "keras 3": "keras",
    }
    for launcher, version in rows:
        first = launcher.lower()
        known = [dist for start, dist in dists.items() if first.startswith(start)]
        names = known or re.findall(r"[\w-]+", first.partition(":")[0])
        wanted = [versions[name] for name in names if name in versions]
        assert wanted, launcher
        assert re.findall(r"\d[\w.]+", version) == wanted, launcher


def test_pages_whose_code_runs_elsewhere_are_read_there() -> None:
    for page, test in ELSEWHERE.items():
        assert f'"{Path(page).name}"' in (ROOT / test).read_text()


def commands(page: str) -> Iterator[list[str]]:
    """What stands behind the prompts, word by word, each part of a line by itself."""
    for block in blocks(page, "console"):
        for line in re.findall(r"^\$ (.*)$", block.replace("\\\n", " "), re.MULTILINE):
            lexer = shlex.shlex(re.sub(r"> \S+", "", line), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            for ends, words in groupby(lexer, key=lambda word: set(word) <= set("();|&<>")):
                if not ends:
                    yield list(words)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
# Those of the tutorial run in order, with what they print, in tests/test_tutorial.py.
@pytest.mark.parametrize(
    "page", [page for page in pages_with("console") if page != "docs/tutorial.md"]
)
def test_the_commands_of_a_page_are_real(page: str, here: Here, plan: ic.Plan) -> None:
    if page == "docs/verify.md":
        held = {"model": ic.fetch(plan, framework="torch"), "step": torch.tensor(0)}
        dcp.save(held, checkpoint_id="checkpoint/step-0", no_dist=True)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(Path("orbax/0").absolute(), {"params": ic.fetch(plan), "step": 0})
    if page == "docs/hub.md":
        Path("llama").mkdir()
        Path("models/acme").mkdir(parents=True)
        Path("llama/config.json").write_text(json.dumps(CONFIG))
        Path("llama/generation_config.json").write_text("{}")
        Path("llama/tokenizer.json").write_text("{}")
    for words in commands(page):
        while re.match(r"[A-Z_]+=", words[0]):  # variables of the environment
            words = words[1:]
        program, *arguments = [here(word) for word in words]
        if program == "initclient":
            # Certificates are the subject of tests/client/test_credentials.py, mounts that of
            # tests/client/test_mount.py.
            elsewhere = "--ca" in arguments or "mount" in arguments
            done = client_parser().parse_args(arguments) if elsewhere else initclient(arguments)
            assert elsewhere or done == 0, words
        elif program == "initserver":
            settings(server_parser().parse_args(arguments), {})
        elif program == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            wanted = {word for word in arguments if "=" not in word}  # make's own variables
            assert wanted <= set(targets), words
        elif program.endswith("pip"):
            assert arguments[0] == "install"
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            for names in re.findall(r"initserve\[(.*)\]", " ".join(arguments)):
                assert set(names.split(",")) <= set(extras["optional-dependencies"]), words
        elif program.endswith(("python", "torchrun")):
            if {"sglang.launch_server", "vllm.entrypoints.openai.api_server"} & {*arguments}:
                continue
            # A file, or a module of the tests.
            files = [w if "/" in w else w.replace(".", "/") + ".py" for w in arguments]
            assert any("/" in file and (ROOT / file).exists() for file in files), words
        elif "/" in program:
            assert (ROOT / program).is_file() or program.startswith(".venv/bin/"), words
        else:
            assert program in OF_OTHERS, words
        for word in words:
            if re.match(r"(deploy|docs|examples|tests)/", word):
                assert (ROOT / word).exists(), words


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_the_yaml_of_a_page_is_a_plan_or_a_recipe(page: str, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        path = tmp_path / "own.yaml"
        path.write_text(block if not block.startswith("  - ") else f"tensors:\n{block}")
        if "rules:" in block:
            assert recipes.load(path).rules
        else:
            ic.describe(path)


def test_the_log_line_of_the_page_is_json() -> None:
    for block in blocks("docs/service.md", "json"):
        assert json.loads(block)["level"] == "info"


def rows(page: str) -> Iterator[tuple[list[str], str]]:
    """The names in the first cell of each row of a page's tables, and the second cell."""
    for first, second in re.findall(r"^\| ([^|]*`[^|]*) \|([^|]*)\|", PAGES[page], re.MULTILINE):
        yield re.findall(r"`(\w+)`", first), second


def test_every_scheme_is_on_the_page_of_plans_with_its_arguments() -> None:
    found = {name: cell for names, cell in rows("docs/plans.md") for name in names}
    for name, scheme in SCHEMES.items():
        own = {k: v for k, v in scheme.arguments.items() if k not in ("layout", "batch_axes")}
        shown = re.findall(r"(\w+)(?:=([^,]+))?", found[name].strip())
        assert [argument for argument, _ in shown] == list(own), name
        for argument, text in shown:
            assert (ast.literal_eval(text) if text else REQUIRED) == own[argument], name


def test_every_error_is_on_the_page_of_the_client() -> None:
    found = {name for names, _ in rows("docs/client.md") for name in names}
    public = {name: getattr(ic, name) for name in ic.__all__}
    errors = {
        name for name, it in public.items() if isinstance(it, type) if issubclass(it, Exception)
    }
    assert {name for name in errors if not name.endswith("Warning")} <= found


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path.read_text("utf-8")), link


def test_the_readme_is_short_and_its_figures_are_those_of_the_page_of_speed() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 70
    (line,) = re.findall(r"^- .*\(docs/speed\.md\).*$", PAGES["README.md"], re.M)
    said = re.findall(r"\b\d+(?:\.\d+)?\b", line)
    table = re.findall(
        r"^\| (\w+ f32)[^|]*\|[^|]*\|[^|]*\| ([\d.]+) \|", PAGES["docs/speed.md"], re.M
    )
    assert said == [ratio for _, ratio in table][:3]


def test_every_page_is_in_the_table_of_the_readme() -> None:
    table = PAGES["README.md"].split("## Read on")[1]
    assert {page for page in PAGES if f"]({page})" not in table} == {"README.md"}
