"""What a tensor costs beyond its elements: plans of many small tensors, with CPU seconds a step.

    python benchmarks/plans.py 90000

The plan is a mixture of experts with the names of Hugging Face's models. CPU seconds of this
process, so that other work on the machine counts little; the best of two.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import initclient as ic
from initcore.file import layout
from initcore.show import json_text, print_description
from initcore.wire import format_plan, parse_plan

LAYERS = 60


def experts(count: int) -> ic.Plan:
    """A plan of about `count` matrices of 16 x 64 and 64 x 16."""
    tensors = {}
    for layer in range(LAYERS):
        for expert in range(count // (3 * LAYERS)):
            for part, shape in (("gate", (16, 64)), ("up", (16, 64)), ("down", (64, 16))):
                name = f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
                tensors[name] = ic.normal(shape, std=0.02, dtype="bf16")
    return ic.Plan(tensors, 7)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the faster of two runs."""
    found = []
    for _ in range(2):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def main() -> None:
    """Prints a row for each step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("tensors", type=int, nargs="?", default=90_000)
    count = parser.parse_args().tensors
    plan = experts(count)
    text = format_plan(plan)
    description = ic.describe(plan, target="local")
    steps: dict[str, Callable[[], object]] = {
        "build with ic.normal": lambda: experts(count),
        "lay out": lambda: layout(plan),
        "fetch in this process": lambda: ic.fetch(plan, target="local"),
        "write YAML": lambda: format_plan(plan),
        "read YAML": lambda: parse_plan(text),
        "describe": lambda: ic.describe(plan, target="local"),
        "its JSON": lambda: "".join(json_text(description)),
        "its table": lambda: print_description(description, io.StringIO()),
        "its table, all rows": lambda: print_description(description, io.StringIO(), every=True),
    }
    print(f"{len(plan):,} tensors" + f"{'CPU s':>22}{'us a tensor':>14}")
    for name, work in steps.items():
        taken = seconds(work)
        print(f"{name:25s}{taken:12.2f}{taken / len(plan) * 1e6:14.1f}")


if __name__ == "__main__":
    main()
