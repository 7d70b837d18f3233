"""Everything that wants a GPU, in one call under four minutes: make gpu

Golden vectors and tests/gpu; compute-sanitizer, where it is, on kernels of every draw; and the
benchmark, whose results go to benchmarks/results/gpu.json and, with the device's name, to
docs/performance.md. It installs nothing. Where something is missing it says so in one line and
exits with 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
PAGE = ROOT / "docs" / "performance.md"
SECONDS = 225.0
MARKS = ("<!-- make gpu: from here -->", "<!-- make gpu: to here -->")


def missing() -> str:
    """The packages or the device that this lacks, with the remedy; "" if it has all."""
    needed = {
        "cupy": "'initserve[cuda12]' or 'initserve[cuda13]'",
        "pytest": "'initserve[test]'",
        "pytest_timeout": "'initserve[test]'",
        "hypothesis": "'initserve[test]'",
        "initcore": "-e '.[test]'",
    }
    for module, package in needed.items():
        if importlib.util.find_spec(module) is None:
            return f"{sys.executable} has no module {module}: pip install {package}"
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "CuPy finds no CUDA device"
    except Exception as error:  # CuPy's import fails in many ways where CUDA is half there
        return f"CuPy finds no CUDA device: {' '.join(str(error).split())}"
    from initcore.backends import load

    try:
        load("cupy")
    except Exception as error:
        return " ".join(str(error).split())
    return ""


def page_with(page: str, results: dict[str, Any]) -> str:
    """The text of docs/performance.md with the results between its marks.

    Args:
        page: the text as it is.
        results: what benchmarks/gpu.py writes: `machine` and `rows`.

    Raises:
        ValueError: if the page has no marks.
    """
    before, first, rest = page.partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not first or not second:
        raise ValueError(f"{PAGE.name} lacks the lines {MARKS[0]} and {MARKS[1]}")
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    lines = [f"Device: {machine['gpu']} ({versions}).", ""]
    lines += ["| what | where | ours | beside | theirs | times as fast | reach |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in results["rows"]:
        unit = {"ns each": "ns"}.get(row["unit"], row["unit"])
        theirs, ratio, reach = (row[name] for name in ("theirs", "ratio", "reach"))
        cells = [
            row["name"],
            f"{row['group']}, {row['where']}" if row["where"] != "GPU" else row["group"],
            f"{row['ours']:.3g} {unit}",
            row["against"],
            "" if theirs is None else f"{theirs:.3g} {unit}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if reach is None else f"{reach:g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return before + first + "\n" + "\n".join(lines) + "\n" + second + after


class Budget:
    """The seconds that are left for all steps, and what the steps came to."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.failed: list[str] = []

    def left(self) -> float:
        """Seconds that are left, at least one."""
        return max(1.0, self._end - time.monotonic())

    def step(self, name: str, command: Sequence[str], most: float) -> bool:
        """Runs a command, for `most` seconds at most; says how it ended."""
        print(f"== {name}", flush=True)
        began = time.monotonic()
        limit = min(most, self.left())
        environment = os.environ | {"PYTHONPATH": _search_path()}
        # A group of its own, so that servers which the command started end with it.
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        try:
            code = process.wait(limit)
            outcome = "passed" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            outcome = f"failed: not done after {limit:.0f} s"
        print(f"== {name}: {outcome}, {time.monotonic() - began:.0f} s", flush=True)
        if outcome != "passed":
            self.failed.append(name)
        return outcome == "passed"


SANITIZED = """
import numpy as np
from initcore.backends import load
from initcore.stream import *
from initcore.stream.keys import Stream
backend, reference = load("cupy"), load("numpy")
draws = [NormalDraw(0.0, 1.0), UniformDraw(0.0, 1.0, -1.0, 1.0),
         TruncNormalDraw(0, 2**26, 0.0, 1.0, -9.0, 9.0), WordDraw()]
for draw in draws:
    kinds = ["U32"] if isinstance(draw, WordDraw) else ["F32", "BF16"]
    for kind in kinds:
        for starts, length in (([5], 70_001), ([0, 9, 2**34 - 3], 1003), ([1, 7, 2**62] * 9, 3)):
            job = Job(draw, Stream(1, 2, 3, 4), kind)
            runs = Runs(np.array(starts, np.uint64), length)
            storage = {"F32": "f4", "BF16": "u2", "U32": "u4"}[kind]
            made, expected = np.empty(runs.count, storage), np.empty(runs.count, storage)
            backend.fill(job, runs, made)
            reference.fill(job, runs, expected)
            assert (made.view(np.uint8) == expected.view(np.uint8)).all(), (draw, kind, length)
"""


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if reason := missing():
        print(f"make gpu needs a machine with a GPU and CuPy: {reason}")
        return 1
    budget = Budget(SECONDS)
    tests = ["-q", "-p", "no:cacheprovider", "-rs", "tests/gpu"]
    budget.step("golden vectors and tests/gpu", [sys.executable, "-m", "pytest", *tests], 110)
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("== compute-sanitizer: not on PATH, left out", flush=True)
    for tool in ("memcheck", "racecheck") if sanitizer else ():
        command = [str(sanitizer), "--tool", tool, "--error-exitcode", "9"]
        budget.step(f"compute-sanitizer {tool}", [*command, sys.executable, "-c", SANITIZED], 30)
    before = RESULTS.stat().st_mtime if RESULTS.exists() else 0.0
    measured = [sys.executable, "benchmarks/gpu.py", "--quick"]
    if budget.step("benchmark", measured, budget.left()):
        if not RESULTS.exists() or RESULTS.stat().st_mtime == before:
            budget.failed.append("benchmark: no results")
        else:
            page = page_with(PAGE.read_text(), json.loads(RESULTS.read_text()))
            PAGE.write_text(page)
            print(f"== results are in {RESULTS.relative_to(ROOT)} and {PAGE.relative_to(ROOT)}")
    if budget.failed:
        print(f"make gpu failed: {'; '.join(budget.failed)}")
        return 1
    print("make gpu: all passed")
    return 0


def _search_path() -> str:
    ours = [str(ROOT / folder) for folder in ("protos", "core", "server", "client")]
    return os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])


if __name__ == "__main__":
    sys.exit(main())
