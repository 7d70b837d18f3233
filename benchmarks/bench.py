"""Everything that is measured, beside what people use instead: `make bench`; see README.md here.

    python benchmarks/bench.py [--quick] [--only PART ...] [--out FOLDER]

Prints tables, writes one JSON file a part and the charts of docs/performance.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import _charts
import generation
import gpu
from _turns import RESULTS, Machine, Row, in_a_process, table

PARTS = ("generation", "serving", "bootstrap", "coldstart", "gpu")


def measure(part: str, quick: bool) -> list[Row]:
    """The rows of a part, measured in processes of its own."""
    if part == "generation":
        return generation.measure(quick)
    if part == "gpu" and (reason := gpu.missing()):
        print(f"gpu: skipped, {reason}")
        return []
    more = ["--quick"] if quick else []
    return [Row(**row) for row in in_a_process(f"{part}.py", "--json", *more)]


def charts(part: str, rows: Sequence[Row]) -> dict[str, str]:
    """SVG by file name."""
    draw: dict[str, Callable[[Sequence[Row]], dict[str, str]]] = {
        "generation": _generation_charts,
        "serving": _serving_charts,
        "bootstrap": _bootstrap_charts,
    }
    return draw[part](rows) if part in draw else {}


def _generation_charts(rows: Sequence[Row]) -> dict[str, str]:
    beside = [row for row in rows if row.group == "Generation, beside torch"]
    ratios = [
        (f"{row.name}, {row.where}", row.ratio or 0.0, f"{row.ratio:.1f}x  {row.ours:.2f} ns")
        for row in beside
    ]
    sizes: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.group.startswith("Generation by size"):
            size, backend = row.name.split(" elements, ")
            sizes.setdefault(backend, []).append((float(size), row.ours))
            if backend == "native" and row.theirs:
                sizes.setdefault("torch", []).append((float(size), row.theirs))
    found = {}
    if ratios:
        found["generation.svg"] = _charts.bars("Times as fast as torch.nn.init", ratios, 1.0)
    if sizes:
        found["sizes.svg"] = _charts.lines(
            "Normal bfloat16, by size", sizes, "elements", "ns an element", log_up=True
        )
    return found


def _serving_charts(rows: Sequence[Row]) -> dict[str, str]:
    series: dict[str, list[tuple[float, float]]] = {"grpcio, constant bytes": []}
    for row in rows:
        if not row.group.startswith("Serving normal bf16"):
            continue
        count = float(row.where.split()[0])
        series.setdefault(row.name, []).append((count, row.ours))
        if row.name == "cached" and row.theirs:
            series["grpcio, constant bytes"].append((count, row.theirs))
    return {
        "serving.svg": _charts.lines(
            "All clients together, over loopback", series, "clients", "GB/s"
        )
    }


def _bootstrap_charts(rows: Sequence[Row]) -> dict[str, str]:
    found = {}
    for key, unit, name in (
        ("until the last rank has it", "s", "bootstrap.svg"),
        ("peak memory added", "MiB", "bootstrap-memory.svg"),
    ):
        chosen = [row for row in rows if key in row.group]
        most = max((row.where for row in chosen), default="")
        values = [
            (row.name, row.ours, f"{row.ours:.2f} {unit}" if unit == "s" else f"{row.ours:.0f} MiB")
            for row in chosen
            if row.where == most
        ]
        if values:
            title = f"{chosen[0].group.removeprefix('Bootstrap, ')}, {most}"
            found[name] = _charts.bars(title, values)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="minutes less, and coarser")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("Needs torch: pip install -e '.[test]', or run `make bench`", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.only:
        machine = Machine()
        rows = measure(part, options.quick)
        if not rows:
            continue
        about = machine.report() | {"quick": options.quick}
        print(
            f"\n== {part}: {about['seconds']:.0f} s, load {about['load'][0]} to "
            f"{about['load'][1]}, others used {about['others_cores']} cores\n"
        )
        print(table(rows), flush=True)
        text = json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1)
        (options.out / f"{part}.json").write_text(text + "\n")
        for name, svg in charts(part, rows).items():
            (options.out / name).write_text(svg)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
