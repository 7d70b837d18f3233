"""Records the models of whole libraries, and compares small ones with the plain model.

    python tests/exhaustive/recorded_models.py run --results results.jsonl
    python tests/exhaustive/recorded_models.py run --results results.jsonl --library timm
    python tests/exhaustive/recorded_models.py table --results results.jsonl

`run` adds a line of JSON to the results for each model and way, and leaves out those that have
one, so that it may be stopped at any time. There are three ways:

- coverage: the model in its default configuration, recorded on the meta device. The line has the
  number of parameters that a plan has, and those that are refused, with the reason.
- comparison: the model, or a smaller form of its configuration. The recorded operations over the
  draws of torch's generator at a seed must give the bits of the plain model at that seed, and
  at another seed each random tensor must differ. The plan's own values must have the plain model's
  distribution (Kolmogorov-Smirnov), or its bits where no draw decides.
- recipes: the recipes that repeat a library refuse the model, or have the recorded laws.

Each model runs in a process of its own, with limits on time and memory. `table` prints
the tables of docs/torch.md. The environment has torch==2.13.0, transformers==5.24.0,
timm==1.0.31, diffusers==0.42.1, torchtitan==0.3.0 and megatron-core==0.16.1, of which
`pip install --no-deps` installs the last four, with torchvision, triton, Pillow, einops, requests,
spmd_types, tyro, docstring_parser, datasets, multiprocess, dill, pandas, pyarrow, xxhash,
torchdata, flash-linear-attention and fla-core, and SciPy.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.exhaustive.recording import stand_ins
from tests.exhaustive.recording.processes import Row, apart
from tests.exhaustive.recording.table import tables

stand_ins.install()

from tests.exhaustive.recording import measures, subjects  # noqa: E402 - after the stand-ins

CPU_SECONDS, SECONDS = 300, 1200
WAYS = ("coverage", "comparison", "recipes")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--results", type=Path, required=True, help="a file of JSON lines")
    parser.add_argument("--library", action="append", choices=tuple(subjects.LIBRARIES))
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--name", action="append", help="a model of the library")
    parser.add_argument("--gib", type=float, default=16.0, help="memory of a model's process")
    parser.add_argument(
        "--elements", type=int, default=measures.MOST_ELEMENTS, help="of a model that is compared"
    )
    parser.add_argument("--again", action="store_true", help="also models that have a line")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # What a first recording imports is not imported again in each process.
    torch.set_num_threads(1)
    measures.coverage(lambda: torch.nn.Transformer(8, 2, 1, 1, 16))
    gc.freeze()
    if options.command == "run":
        _run(options)
    else:
        print(tables(rows(options.results)))
    return 0


def _run(options: argparse.Namespace) -> None:
    done = {(row["way"], row["library"], row["name"]) for row in rows(options.results)}
    for way in options.way or WAYS:
        for library in options.library or subjects.LIBRARIES:
            for name in options.name or subjects.names(library):
                if (way, library, name) in done and not options.again:
                    continue
                row: Row = {"way": way, "library": library, "name": name}
                row |= apart(
                    lambda way=way, library=library, name=name: _row(
                        way, library, name, options.elements
                    ),
                    cpu_seconds=CPU_SECONDS,
                    seconds=SECONDS,
                    gib=options.gib,
                )
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(_line(row), flush=True)


def rows(path: Path) -> list[Row]:
    """The results, of which the last line of each model counts."""
    found: dict[tuple[str, str, str], Row] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found[row["way"], row["library"], row["name"]] = row
    return list(found.values())


def _row(way: str, library: str, name: str, most: int) -> Row:
    if way == "coverage":
        return measures.coverage(subjects.maker(library, name))
    if way == "recipes":
        return measures.by_recipes(subjects.maker(library, name))
    failure: Exception = subjects.TooLargeError("has no small form")
    for make in subjects.small_makers(library, name):
        try:
            small = measures.is_small(make, most)
        except Exception as error:
            failure = error
            continue
        if small:
            return measures.comparison(make)
        failure = subjects.TooLargeError("more elements than are compared")
    raise failure


def _line(row: Row) -> str:
    shown: dict[str, Any] = {k: v for k, v in row.items() if v not in ([], {}, 0)}
    shown.pop("digest", None)
    return f"{time.strftime('%H:%M:%S')} {json.dumps(shown)[:300]}"


if __name__ == "__main__":
    sys.exit(main())
