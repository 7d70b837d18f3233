"""Ways to do one thing, measured in turns, and what their ratios are.

The ways alternate within one run, so that what else the machine does slows all of them. A ratio
is that of the best turns, since everything else that runs only ever adds time; beside it stand
the quartiles of the ratios of each turn, which tell how far to trust it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Way = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        group: the table that it belongs to.
        name: what was done.
        where: on what, such as "1 core".
        ours: the best of ours.
        against: what it is compared with; "" for nothing.
        theirs: the best of theirs.
        unit: of both.
        ratio: how many times better ours is.
        low: lower quartile of the turns' ratios.
        high: upper quartile.
        turns: how often each was measured.
        reach: the ratio that the project wants to reach; None if it named none.
    """

    group: str
    name: str
    where: str = ""
    ours: float
    against: str = ""
    theirs: float | None = None
    unit: str = "ns each"
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    turns: int = 0
    reach: float | None = None


def take_turns(ways: Mapping[str, Way], turns: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each way in each turn, after some unmeasured turns.

    With BENCH_CLOCK=cpu in the environment, the CPU seconds of this process.
    """
    clock = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + warm_up):
        for name, way in ways.items():
            start = clock()
            way()
            if turn >= warm_up:
                taken[name].append(clock() - start)
    return taken


def compared(
    ours: Sequence[float],
    theirs: Sequence[float] | None,
    *,
    scale: float = 1.0,
    larger_is_better: bool = False,
    **about: Any,
) -> Row:
    """The row of two ways' turns; `scale` turns their numbers into the unit of the row."""
    best = max if larger_is_better else min
    mine = best(ours) * scale
    if theirs is None:
        return Row(ours=mine, turns=len(ours), **about)
    other = best(theirs) * scale
    pairs = [(a / b if larger_is_better else b / a) for a, b in zip(ours, theirs, strict=True)]
    low, high = (pairs[0],) * 2
    if len(pairs) > 1:
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
    ratio = mine / other if larger_is_better else other / mine
    return Row(ours=mine, theirs=other, ratio=ratio, low=low, high=high, turns=len(ours), **about)


def cpus() -> list[int]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def busy_seconds() -> float:
    """CPU seconds that the whole machine has spent; 0 where the system does not say."""
    with suppress(OSError):
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        # All but idle, waiting for disks, and what guests count twice.
        return sum(fields[:3] + fields[5:8]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def own_seconds() -> float:
    """CPU seconds of this process and of the children that have ended."""
    return sum(os.times()[:4])


class Machine:
    """What ran where, and how busy others kept the machine meanwhile."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), busy_seconds(), own_seconds()
        self._load = os.getloadavg()[0]

    def report(self) -> dict[str, Any]:
        """For the results, after the last turn."""
        wall = time.perf_counter() - self._began
        others = busy_seconds() - self._busy - (own_seconds() - self._own)
        return {
            "cpu": _cpu_name(),
            "cores": len(cpus()),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "packages": _versions(),
            "seconds": round(wall, 1),
            "load": [round(self._load, 2), round(os.getloadavg()[0], 2)],
            "others_cores": round(max(0.0, others / wall), 2),
        }


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for name in ("initserve", "numpy", "torch", "jax", "grpcio", "cupy-cuda12x"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def in_a_process(
    script: str,
    *arguments: str,
    cores: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Any:
    """The JSON that a script of this folder prints, run in a process of its own.

    Args:
        script: its file name.
        arguments: its arguments.
        cores: how many CPUs it and the libraries in it may use; None means all.
        variables: its environment has these too.
    """
    environment, allowed = {**os.environ, **(variables or {})}, cpus()
    if cores is not None:
        # All before the process begins: libraries start their threads when imported.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "INITSERVE_THREADS"):
            environment[name] = str(cores)
        _keep_to(allowed[:cores])
    command = [sys.executable, str(Path(__file__).parent / script), *arguments]
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{script} {' '.join(arguments)} failed: {error}") from error
    finally:
        _keep_to(allowed)
    return json.loads(done.stdout.splitlines()[-1])


def _keep_to(allowed: list[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, allowed)


def print_rows(rows: Sequence[Row]) -> None:
    """For a part run in its own process: the last line is what `in_a_process` takes."""
    print(json.dumps([asdict(row) for row in rows]))


def print_part(description: str, rows: Callable[[bool], Iterable[Row]]) -> None:
    """The command of a part by itself: its rows, given whether to be quick, as a table or JSON."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, less work")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    options = parser.parse_args()
    found = list(rows(options.quick))
    if options.json:
        print_rows(found)
    else:
        print(table(found))


def table(rows: Sequence[Row]) -> str:
    """The rows for a terminal, one table a group."""
    lines: list[str] = []
    for group in dict.fromkeys(row.group for row in rows):
        shown = [row for row in rows if row.group == group]
        width = max(len(row.name) for row in shown)
        beside = max(len(row.against) for row in shown)
        lines += ["", group]
        for row in shown:
            line = f"  {row.name:{width}}  {row.where:8} {row.ours:9.3f} {row.unit:9}"
            if row.theirs is not None:
                line += f"  {row.against:{beside}} {row.theirs:9.3f}"
            if row.ratio is not None:
                line += f"   {row.ratio:6.2f}x  [{row.low:.2f}, {row.high:.2f}] of {row.turns}"
            if row.reach is not None and row.ratio is not None:
                line += f"   reach {row.reach:g}{'' if row.ratio >= row.reach else '  NOT YET'}"
            lines.append(line.rstrip())
    return "\n".join(lines[1:])
