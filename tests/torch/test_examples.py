"""The examples run as they are written, and the page's code is what it says it is."""

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

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_model(tmp_path: Path) -> None:
    assert "9 tensors of the model equal their plan's" in run(
        tmp_path, str(EXAMPLES / "torch_model.py")
    )


def test_fsdp2_under_torchrun(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    text = run(tmp_path, *launcher, str(EXAMPLES / "torch_fsdp2.py"))
    assert "2 ranks together hold what one process holds" in text


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)


PAGE = (ROOT / "docs" / "torch.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_code_of_the_page_runs(code: str) -> None:
    model = Net()
    names = {"ic": ic, "ict": ict, "nn": nn, "torch": torch, "model": model, "Net": Net}
    names["plan"] = ict.plan(model)
    exec(code, names)
