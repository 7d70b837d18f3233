"""`make gpu` says in a line what a machine lacks, ends in time, and writes results to a page."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "on_gpu.py"

RESULTS: dict[str, Any] = {
    "machine": {"gpu": "NVIDIA H100 80GB HBM3", "packages": {"numpy": "2.3.5"}},
    "rows": [
        {
            "group": "On the GPU",
            "name": "normal f32",
            "where": "GPU",
            "ours": 0.0025,
            "against": "device fill",
            "theirs": 0.00131,
            "unit": "ns each",
            "ratio": 0.524,
            "reach": 0.5,
        }
    ],
}


@pytest.fixture(scope="module")
def on_gpu() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        return importlib.import_module("on_gpu")


def test_without_a_gpu_one_line_says_what_is_missing(on_gpu: Any) -> None:
    if not on_gpu.missing():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith("make gpu needs a machine with a GPU and CuPy: ")


def test_the_results_are_on_the_page_once_however_often_it_runs(on_gpu: Any) -> None:
    page = on_gpu.PAGE.read_text()
    once = on_gpu.page_with(page, RESULTS)
    assert "NVIDIA H100 80GB HBM3" in once
    assert "| normal f32 | On the GPU | 0.0025 ns | device fill | 0.00131 ns | 0.52 | 0.5 |" in once
    assert on_gpu.page_with(once, RESULTS) == once
    with pytest.raises(ValueError, match="lacks the lines"):
        on_gpu.page_with("a page without marks", RESULTS)


def test_a_step_that_takes_too_long_or_fails_is_named(on_gpu: Any) -> None:
    budget, began = on_gpu.Budget(60.0), time.monotonic()
    assert budget.step("short", [sys.executable, "-c", ""], 30)
    assert not budget.step("wrong", [sys.executable, "-c", "raise SystemExit(3)"], 30)
    assert not budget.step("endless", [sys.executable, "-c", "import time; time.sleep(600)"], 0.5)
    assert budget.failed == ["wrong", "endless"]
    assert time.monotonic() - began < 120
