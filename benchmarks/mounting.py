"""How fast a mounted folder is read: `dd` from `initclient mount`, beside `fetch_file` of the plan.

    python benchmarks/mounting.py [--quick]

Both write the same file, and take turns. Every turn mounts anew, so that no byte is in a cache,
and neither starting the mount nor importing is in the numbers. Needs `/dev/fuse` and fuse3.
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
from serving import Server

_FILE = "model.safetensors"


@contextmanager
def _mounted(plan: Path, at: Path, target: str) -> Iterator[Path]:
    command = [sys.executable, "-m", "initclient", "mount", str(plan), str(at), "--target", target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            if not process.stdout.readline().startswith("mounted "):
                raise SystemExit("nothing can be mounted here")
            yield at / _FILE
        finally:
            process.terminate()


def _seconds(plan: ic.Plan, target: str, turns: int) -> tuple[list[float], list[float]]:
    """Of `dd` and of `fetch_file`, in turns; the first one of each is not measured."""
    found: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        file, at, out = Path(folder, "plan.yaml"), Path(folder, "at"), Path(folder, "out")
        ic.dump_plan(plan, file)
        for _ in range(turns + 1):
            with _mounted(file, at, target) as weights:
                size = weights.stat().st_size
                command = ["dd", f"if={weights}", f"of={out}", "bs=4M", "status=none"]
                began = time.perf_counter()
                subprocess.run(command, check=True)
                found[0].append(time.perf_counter() - began)
            assert out.stat().st_size == size
            out.unlink()
            began = time.perf_counter()
            ic.fetch_file(plan, out, target=target, resume=False)
            found[1].append(time.perf_counter() - began)
            out.unlink()
    return found[0][1:], found[1][1:]


def rows(quick: bool) -> Iterator[Row]:
    """Seconds of each GiB, computed here and from a server that keeps nothing."""
    gibibytes, turns = (0.25, 3) if quick else (2, 9)
    plan = ic.Plan({"w": ic.normal((int(gibibytes * 2**20), 512), dtype="BF16")}, seed=1)
    with Server("--backend", "native", "--cache-bytes", "0") as server:
        for name, target in (("computed here", "local"), ("from a server", server.target)):
            ours, theirs = _seconds(plan, target, turns)
            yield compared(
                ours,
                theirs,
                scale=1 / gibibytes,
                group="A mounted file",
                name=f"dd, {name}",
                unit="s a GiB",
                against="fetch_file",
                reach=0.8,
            )


if __name__ == "__main__":
    print_part(__doc__, rows)
