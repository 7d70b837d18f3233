"""The examples: a plan, and programs that leave nothing behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import initclient as ic

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# Each runs every example that it names in an empty folder, and looks into it afterwards.
RUN_BY = ("client/test_examples.py", "torch/test_examples.py", "jax/test_examples.py")


def test_the_example_plan_is_ordinary() -> None:
    found = ic.describe(EXAMPLES / "small-gpt.yaml")
    assert found.warnings == ()
    assert len({tensor.scheme for tensor in found.tensors}) >= 8
    assert len({tensor.dtype for tensor in found.tensors}) >= 3


def test_the_demo_finds_equal_bits(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "demo.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every bit agrees" in done.stdout
    # The README says what everybody's machine prints.
    (begin,) = re.findall(r"make demo .* (\w{16})\.\.\.", (ROOT / "README.md").read_text("utf-8"))
    assert len(re.findall(rf"^SHA-256, .* {begin}\w{{48}}$", done.stdout, re.M)) == 2
    assert done.stderr == ""
    assert not [*tmp_path.iterdir()]


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join((ROOT / "tests" / path).read_text() for path in RUN_BY)
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tests] == []
