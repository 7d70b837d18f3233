"""Speeds beside torch's, as ratios measured in one run. `make bench`; see README.md here.

Ours and torch's work alternate within one process, so that a busy machine slows both.
Each number of cores has a process of its own, bound to its CPUs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from workloads import Workload, cpu_workloads, gpu_workloads

IMPORT_TARGET_MS = 150.0
_IMPORT = """
import time, numpy, grpc
start = time.perf_counter()
import initclient
print((time.perf_counter() - start) * 1e3)
"""


@dataclass(frozen=True)
class Result:
    """One row of the table; medians, in nanoseconds an element."""

    name: str
    where: str
    ours_ns: float
    theirs_ns: float | None
    ratio: float | None
    target: float | None

    @property
    def verdict(self) -> str:
        """PASS or fail, or nothing where nothing was promised."""
        if self.target is None or self.ratio is None:
            return ""
        return "PASS" if self.ratio >= self.target else "fail"


def measure(workloads: Iterable[Workload], where: str, rounds: int) -> list[Result]:
    """Each workload's medians over `rounds` turns of ours and theirs, after one unmeasured."""
    results = []
    for work in workloads:
        ways = [work.ours] if work.theirs is None else [work.ours, work.theirs]
        times: list[list[float]] = [[] for _ in ways]
        for turn in range(rounds + 1):
            for taken, way in zip(times, ways, strict=True):
                seconds = _seconds(way)
                if turn:
                    taken.append(seconds * 1e9 / work.elements)
        ours, *rest = (statistics.median(taken) for taken in times)
        theirs = rest[0] if rest else None
        ratio = theirs / ours if theirs is not None else None
        results.append(Result(work.name, where, ours, theirs, ratio, work.target))
    return results


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def measure_cores(cores: int, rounds: int) -> list[Result]:
    """The CPU's workloads in this process, which was started for so many cores."""
    import torch

    torch.set_num_threads(cores)
    plural = "s" if cores > 1 else ""
    return measure(cpu_workloads(cores), f"{cores} core{plural}", rounds)


def measure_gpu(rounds: int) -> list[Result]:
    """The GPU's workloads, or nothing where no GPU answers."""
    if importlib.util.find_spec("cupy") is None:
        return []
    try:
        return measure(gpu_workloads(), "GPU", rounds)
    except Exception as error:
        print(f"No GPU rows: {error}", file=sys.stderr)
        return []


def import_milliseconds(times: int = 9) -> float:
    """How long `import initclient` takes after NumPy and gRPC, in the median process."""
    command = [sys.executable, "-c", _IMPORT]
    taken = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(times)
    ]
    return statistics.median(taken)


def in_a_process(part: str, rounds: int) -> list[Result]:
    """The results of this script run for one part: a number of cores, or "gpu"."""
    command = [sys.executable, __file__, "--part", part, "--rounds", str(rounds)]
    environment = dict(os.environ)
    allowed = _cpus()
    if part != "gpu":
        # All before the process begins: libraries start their threads when imported.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "INITSERVE_THREADS"):
            environment[name] = part
        _keep_to(allowed[: int(part)])
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"The measurement of {part!r} failed:\n{error.stderr}") from error
    finally:
        _keep_to(allowed)
    print(done.stderr, end="", file=sys.stderr)
    return [Result(**row) for row in json.loads(done.stdout)]


def _cpus() -> list[int]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _keep_to(cpus: list[int]) -> None:
    """Binds this process, and those it starts, to CPUs, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def table(results: list[Result], import_ms: float) -> str:
    """Everything measured, for a terminal."""
    width = max(len(result.name) for result in results)
    head = f"{'':{width}}  {'':8} {'ours':>8} {'torch':>8} {'ratio':>7} {'target':>7}"
    lines = [head, f"{'':{width}}  {'':8} {'ns each':>8} {'ns each':>8}"]
    for row in results:
        theirs, ratio, target = (
            "-" if number is None else f"{number:.2f}"
            for number in (row.theirs_ns, row.ratio, row.target)
        )
        lines.append(
            f"{row.name:{width}}  {row.where:8} {row.ours_ns:8.2f} {theirs:>8} {ratio:>7}"
            f" {target:>7}  {row.verdict}".rstrip()
        )
    verdict = "PASS" if import_ms < IMPORT_TARGET_MS else "fail"
    lines.append(f"import initclient: {import_ms:.0f} ms (target < 150 ms)  {verdict}")
    return "\n".join(lines)


def main() -> int:
    """Measures, prints, and returns 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each measurement")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("Needs torch: pip install -e '.[test]', or run `make bench`", file=sys.stderr)
        return 2
    if options.part is not None:
        gpu = options.part == "gpu"
        rounds = options.rounds
        results = measure_gpu(rounds) if gpu else measure_cores(int(options.part), rounds)
        print(json.dumps([asdict(result) for result in results]))
        return 0
    if os.getloadavg()[0] > 0.5:
        print("This machine is busy: the numbers will be worse than it is.", file=sys.stderr)
    parts = ["1", *(["2"] if len(_cpus()) > 1 else []), "gpu"]
    results = [result for part in parts for result in in_a_process(part, options.rounds)]
    import_ms = import_milliseconds()
    if options.json:
        rows = [{**asdict(result), "verdict": result.verdict} for result in results]
        print(json.dumps({"results": rows, "import_ms": import_ms}, indent=2))
    else:
        print(table(results, import_ms))
    missed = import_ms >= IMPORT_TARGET_MS or any(r.verdict == "fail" for r in results)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
