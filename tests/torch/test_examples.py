"""The examples run as they are written, and the page's code is theirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn

from tests import digests

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == [], "an example leaves no files where it runs"
    return done.stdout


def torchrun(folder: Path, ranks: int, example: str) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return run(folder, *launcher, str(EXAMPLES / example))


def test_one_model(tmp_path: Path) -> None:
    text = run(tmp_path, str(EXAMPLES / "torch_model.py"))
    assert "9 tensors of the model equal their plan's" in text


def test_fsdp2_under_torchrun(tmp_path: Path) -> None:
    text = torchrun(tmp_path, 2, "torch_fsdp2.py")
    assert "2 ranks together hold what one process holds" in text


def test_fsdp2_with_tensor_parallel_under_torchrun(tmp_path: Path) -> None:
    text = torchrun(tmp_path, 4, "torch_fsdp2_tp.py")
    assert "2 x 2 ranks together hold what one process holds" in text


def test_accelerate_under_torchrun(tmp_path: Path) -> None:
    text = torchrun(tmp_path, 2, "torch_accelerate.py")
    assert text == "2 processes hold what one process holds\n"


def test_a_llama_from_its_configuration(tmp_path: Path) -> None:
    text = run(tmp_path, str(EXAMPLES / "hugging_face_llama.py"))
    assert "drawn with normal_ at transformers/" in text
    assert text.endswith("\n21 tensors filled, 2 buffers computed\n")


def test_one_model_in_every_layout_is_what_the_pages_show(tmp_path: Path) -> None:
    lines = run(tmp_path, str(EXAMPLES / "any_layout.py")).splitlines()
    page, readme = (
        re.findall(r"any_layout\.py\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)[0]
        for name in ("docs/layouts.md", "README.md")
    )
    *rows, end = lines
    assert end == "23 layouts, one model: every bit agrees."
    assert len({row.split()[-1] for row in rows}) == 1
    assert page.splitlines() == lines
    excerpt = [row for row in readme.splitlines() if row != "..."]
    assert len(excerpt) > 2
    assert set(excerpt) <= set(lines)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)


PAGE = (ROOT / "docs" / "torch.md").read_text()


# What torch says of dcp.load in one process.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_code_of_the_page_runs_and_builds_the_plans_that_it_did() -> None:
    notes = digests.Notes()
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        model = Net()
        names = {"ic": ic, "ict": ict, "nn": nn, "torch": torch, "model": model, "Net": Net}
        names |= {"plan": ict.plan(model), digests.NOTE: notes.note}
        exec(notes.compile(code, "docs/torch.md"), names)
    digests.check("docs/torch.md", notes.found)
