"""How fast a mounted folder is read: `dd` from `initclient mount`, beside `fetch_file` of the plan.

    python benchmarks/mounting.py [--quick]

`dd` reads into nothing, and then writes the file that `fetch_file` writes, too; they take turns.
Each `dd` mounts anew, so that no byte is in a cache, and neither starting the mount nor importing
is in the numbers. Needs `/dev/fuse` and fuse3.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import initclient as ic
from _turns import Row, compared, print_part
from initcore.file import WHOLE_FILE
from serving import Server

_NOTHING = Path("/dev/null")


@contextmanager
def _mounted(plan: Path, at: Path, target: str) -> Iterator[Path]:
    command = [sys.executable, "-m", "initclient", "mount", str(plan), str(at), "--target", target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            if not process.stdout.readline().startswith("mounted "):
                raise SystemExit("nothing can be mounted here")
            yield at / WHOLE_FILE
        finally:
            process.terminate()


def _read(plan: Path, at: Path, target: str, out: Path) -> float:
    """Seconds of a `dd` from a new mount."""
    with _mounted(plan, at, target) as weights:
        size = weights.stat().st_size
        command = ["dd", f"if={weights}", f"of={out}", "bs=4M", "status=none"]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - began
    if out != _NOTHING:
        assert out.stat().st_size == size
        out.unlink()
    return seconds


def _fetch(plan: ic.Plan, target: str, out: Path) -> float:
    began = time.perf_counter()
    ic.fetch_file(plan, out, target=target, resume=False)
    seconds = time.perf_counter() - began
    out.unlink()
    return seconds


def _seconds(plan: ic.Plan, target: str, turns: int) -> dict[str, list[float]]:
    """Of each way, in turns; the first one of each is not measured."""
    found: dict[str, list[float]] = {"read": [], "copied": [], "fetched": []}
    with tempfile.TemporaryDirectory() as folder:
        file, at, out = Path(folder, "plan.yaml"), Path(folder, "at"), Path(folder, "out")
        ic.dump_plan(plan, file)
        for _ in range(turns + 1):
            found["read"].append(_read(file, at, target, _NOTHING))
            found["copied"].append(_read(file, at, target, out))
            found["fetched"].append(_fetch(plan, target, out))
    return {name: seconds[1:] for name, seconds in found.items()}


def rows(quick: bool) -> Iterator[Row]:
    """Seconds of each GiB, computed here and from a server that keeps nothing."""
    gibibytes, turns = (0.25, 3) if quick else (1, 5)
    plan = ic.Plan({"w": ic.normal((int(gibibytes * 2**20), 512), dtype="BF16")}, seed=1)
    with Server("--backend", "native", "--cache-bytes", "0") as server:
        for name, target in (("computed here", "local"), ("from a server", server.target)):
            seconds = _seconds(plan, target, turns)
            for way in ("read", "copied"):
                yield compared(
                    seconds[way],
                    seconds["fetched"],
                    scale=1 / gibibytes,
                    group="A mounted file",
                    name=f"{way} by dd, {name}",
                    unit="s a GiB",
                    against="fetch_file",
                    reach=0.8 if way == "read" else None,
                )


if __name__ == "__main__":
    print_part(__doc__, rows)
