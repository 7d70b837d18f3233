"""N processes get the weights of a model, in all the ways there are; see README.md here.

    python benchmarks/bootstrap.py [--quick]

Every rank of every way is a process that has imported torch, NumPy and this client, and joined
its process group where it needs one, before the clock starts. None of that is in the times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from _turns import Row, busy_seconds, compared, print_part
from serving import Server

WAYS = (
    "broadcast",
    "same seed",
    "seed checkpoint",
    "service",
    "in process",
    "in process, shards",
)
_REACH = {"in process, shards": 8.0, "in process": 1.0}
_RANK = str(Path(__file__).parent / "_rank.py")


@dataclass(frozen=True)
class Outcome:
    """One bootstrap: seconds, CPU seconds, MiB added and in all, MiB over the network and disk."""

    seconds: float
    processor: float
    added: float
    peak: float
    moved: float
    machine: float


def bootstrap(way: str, world: int, mebibytes: int) -> Outcome:
    """The weights in every rank, once."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server("--backend", "native") if way == "service" else None
        with server or nullcontext():
            where = server.target if server else f"file://{folder}/ranks"
            command = [sys.executable, _RANK, way]
            ends = [str(world), str(mebibytes), where]
            pipe = subprocess.PIPE
            ranks = [
                subprocess.Popen([*command, str(rank), *ends], stdin=pipe, stdout=pipe, text=True)
                for rank in range(world)
            ]
            try:
                for rank in ranks:
                    if _line(rank) != "ready":
                        raise SystemExit(f"a rank of {way!r} did not start")
                time.sleep(0.2)  # what the imports left behind
                served = server.processor_seconds() if server else 0.0
                moved, busy = _moved(), busy_seconds()
                began = time.perf_counter()
                for rank in ranks:
                    _tell(rank)
                answers = [json.loads(_line(rank)) for rank in ranks]
                seconds = time.perf_counter() - began
                moved, busy = _moved() - moved, busy_seconds() - busy
                disk = sum(each.stat().st_size for each in Path(folder).glob("*.safetensors"))
                processor, added, peak = (
                    sum(answer[key] for answer in answers) for key in ("processor", "added", "peak")
                )
                if server:
                    processor += server.processor_seconds() - served
                    added += server.peak_memory()
                    peak += server.peak_memory()
                # A checkpoint is written once and read by every rank.
                moved += disk * (1 + world)
                return Outcome(seconds, processor, added, peak, moved / 2**20, busy)
            finally:
                for rank in ranks:
                    rank.kill()
                    rank.wait()


def _line(rank: subprocess.Popen[str]) -> str:
    assert rank.stdout
    return rank.stdout.readline().strip()


def _tell(rank: subprocess.Popen[str]) -> None:
    assert rank.stdin
    rank.stdin.write("go\n")
    rank.stdin.flush()


def _moved() -> int:
    """Bytes over the loopback interface so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[1])
    return 0


def rows(quick: bool) -> Iterator[Row]:
    """Every way in turns, beside rank 0 and broadcast."""
    mebibytes, turns = (256, 2) if quick else (1024, 4)
    for world in (2,) if quick else (4,):
        found: dict[str, list[Outcome]] = {way: [] for way in WAYS}
        for _ in range(turns):
            for way in WAYS:
                found[way].append(bootstrap(way, world, mebibytes))
        yield from _compare(found, f"{world} ranks", f"{mebibytes} MiB of float32")


def _compare(found: dict[str, list[Outcome]], where: str, what: str) -> Iterator[Row]:
    measures = (
        ("until the last rank has it", "seconds", "s", _REACH),
        ("CPU seconds of all", "processor", "s", {}),
        ("peak memory added, of all", "added", "MiB", {"in process, shards": 3.95}),
        ("peak memory in all", "peak", "MiB", {}),
        ("bytes moved", "moved", "MiB", {}),
    )
    for title, key, unit, reach in measures:
        for way, outcomes in found.items():
            ours = [getattr(outcome, key) for outcome in outcomes]
            theirs = [getattr(outcome, key) for outcome in found["broadcast"]]
            # Nothing moved has no ratio.
            other = theirs if way != "broadcast" and min(ours) > 1e-3 else None
            yield compared(
                ours,
                other,
                group=f"Bootstrap, {what}: {title}",
                name=way,
                where=where,
                unit=unit,
                against="broadcast" if other else "",
                reach=reach.get(way) if where == "4 ranks" else None,
            )


if __name__ == "__main__":
    print_part(__doc__, rows)
