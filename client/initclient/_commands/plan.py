"""`initclient plan`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from initcore.show import counted
from initcore.wire import format_plan

from initclient._commands._options import RAW, add_seed, reading
from initclient._files import replacing
from initclient._from_safetensors import plan_from_safetensors

_EPILOG = """\
examples:
  initclient plan trained.safetensors --recipe gpt2 --seed 7 --out plan.yaml
  initclient plan model/ --recipe own.yaml --set layers=12 --dtype bf16 --out plan.yaml
  initclient plan model.safetensors.index.json --recipe llama | initclient describe -
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "plan",
        help="make a plan with the names and shapes of a safetensors file",
        description="Make a plan with the names, shapes and element types of a checkpoint, and\n"
        "the distributions of a recipe. No values are read.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    command.add_argument(
        "file",
        metavar="FILE",
        help="a safetensors file, a Hugging Face index or a folder with either, for example model/",
    )
    command.add_argument(
        "--recipe",
        metavar="NAME",
        required=True,
        help="a recipe, for example gpt2 (`initclient recipes` lists them), or a YAML file of the "
        "same form",
    )
    command.add_argument(
        "--set",
        metavar="NAME=NUMBER",
        type=_assignment,
        action="append",
        default=[],
        help="set an argument of the recipe, for example layers=12; may be repeated",
    )
    command.add_argument(
        "--dtype",
        help="element type of all floating-point tensors, for example bf16 (default: the file's)",
    )
    command.add_argument(
        "--out",
        metavar="PLAN",
        help="the plan file to write, as JSON if it ends in .json, for example plan.yaml (default: "
        "print the plan)",
    )
    add_seed(command, "seed of the plan, for example 7 (default: 0)")
    command.set_defaults(run=_run)


def _assignment(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, int(number) if number.isdecimal() else float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


def _run(options: argparse.Namespace) -> None:
    with reading("the file", options.file):
        plan = plan_from_safetensors(
            options.file,
            recipe=options.recipe,
            recipe_arguments=dict(options.set),
            seed=options.seed or 0,
            dtype=options.dtype,
        )
    if options.out is None:
        sys.stdout.write(format_plan(plan))
        return
    text = format_plan(plan, json_form=options.out.endswith(".json"))
    with replacing(options.out) as file:
        file.write(text.encode())
    count = counted(len(plan), "tensor")
    print(f"wrote {Path(options.out)}: {count}")
