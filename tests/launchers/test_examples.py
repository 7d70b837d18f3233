"""The examples of launchers run as they are written, and the page shows their lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import initclient as ic

from tests import digests

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "launchers"
PAGE = (ROOT / "docs" / "launchers.md").read_text()


def run(folder: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def torchrun(folder: Path, ranks: int, *command: str) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return run(folder, *launcher, *command)


def noted(folder: Path, name: str) -> list[str]:
    """The program that runs an example and notes the plans that it builds."""
    return [digests.__file__, str(EXAMPLES / name), str(folder / f"{name}.json")]


def built_as_before(folder: Path, name: str) -> None:
    found = json.loads((folder / f"{name}.json").read_text())
    assert found
    digests.check(f"examples/launchers/{name}", found)


def test_deepspeed_zero3(tmp_path: Path) -> None:
    program = ("-m", "tests.launchers.deepspeed_on_cpu")
    text = torchrun(tmp_path, 2, *program, *noted(tmp_path, "deepspeed_zero3.py"))
    built_as_before(tmp_path, "deepspeed_zero3.py")
    losses = re.findall(r"rank \d of 2: loss (\d+\.\d+)", text)
    assert len(losses) == 2
    assert len(set(losses)) == 1


def test_megatron(tmp_path: Path) -> None:
    program = ("-m", "tests.launchers.megatron_on_cpu", str(EXAMPLES / "megatron.py"))
    run(tmp_path, *program[:2], *noted(tmp_path, "megatron.py"), "plan.yaml")
    built_as_before(tmp_path, "megatron.py")
    digest = ic.describe(ic.load_plan(tmp_path / "plan.yaml"), target="local").digest
    text = torchrun(tmp_path, 4, *program, "plan.yaml", "2")
    assert text.count(f"verified {digest}") == 4


def test_the_table_counts_the_lines_that_are_marked() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    for row in rows:
        for path in re.findall(r"\(\.\./(examples/launchers/.*?\.py)\)", row[-2]):
            assert int(row[3]) == (ROOT / path).read_text().count("# yours"), path


def test_examples_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_the_page_shows_lines_of_the_examples() -> None:
    assert PAGE.startswith("# "), "launchers.md"
    shown = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    written = "\n".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    for line in "\n".join(shown).splitlines():
        assert line.strip() in written, line
    for path in EXAMPLES.glob("*.py"):
        assert f"../examples/launchers/{path.name}" in PAGE
