"""`initclient plan`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from initcore import Plan
from initcore.show import counted
from initcore.wire import format_plan

from initclient._commands._models import recorded
from initclient._commands._options import RAW, BadInput, add_seed, reading
from initclient._files import replacing
from initclient._from_safetensors import plan_from_safetensors

_EPILOG = """\
examples:
  initclient plan trained.safetensors --recipe gpt2 --seed 7 --out plan.yaml
  initclient plan model/ --recipe own.yaml --set layers=12 --dtype bf16 --out plan.yaml
  initclient plan model.safetensors.index.json --recipe llama | initclient describe -
  initclient plan --model config.json --seed 7 --out plan.yaml
  initclient plan --model nets:make --seed 7 --out plan.yaml

With --model the plan is what the model's own code draws: it runs once more than it would, without
memory, and needs no weights. nets:make is a function in nets.py that returns a torch.nn.Module.
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "plan",
        help="make a plan of a checkpoint's names and shapes, or of a model's own code",
        description="Make a plan with the names, shapes and element types of a checkpoint, and\n"
        "the distributions of a recipe; no values are read. Or, with --model, record what\n"
        "a model's own code draws.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a safetensors file, a Hugging Face index or a folder with either, for example model/",
    )
    command.add_argument(
        "--recipe",
        metavar="NAME",
        help="for FILE: a recipe, for example gpt2 (`initclient recipes` lists them), or a YAML "
        "file of the same form",
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
        "-o",
        "--out",
        metavar="PLAN",
        help="the plan file to write, as JSON if it ends in .json, for example plan.yaml (default: "
        "print the plan)",
    )
    command.add_argument(
        "--model",
        metavar="MODEL",
        help="in place of FILE: a config.json of transformers, its folder, or MODULE:FUNCTION, for "
        "example nets:make (needs torch)",
    )
    command.add_argument(
        "--device",
        choices=("meta", "cpu"),
        default="meta",
        help="where --model is built; cpu takes its memory, for code that needs values, for "
        "example cpu (default: %(default)s)",
    )
    command.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run model code that lies beside the config, or where it leads",
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
    if (options.file is None) == (options.model is None):
        raise BadInput("give FILE and --recipe, or --model, not both")
    if options.file is not None and options.recipe is None:
        raise BadInput("FILE has names and shapes alone; give --recipe NAME for the distributions")
    if options.model is not None and (options.recipe or options.set):
        raise BadInput("--recipe and --set are for FILE; --model records the model's own code")
    if options.model is None:
        plan = _of_file(options)
    else:
        recording = recorded(
            options.model, device=options.device, trust_remote_code=options.trust_remote_code
        )
        for note in recording.notes:
            print(f"initclient: {note}", file=sys.stderr)
        plan = recording.plan(options.seed or 0, dtype=options.dtype)
    if options.out is None:
        sys.stdout.write(format_plan(plan))
        return
    text = format_plan(plan, json_form=options.out.endswith(".json"))
    with replacing(options.out) as file:
        file.write(text.encode())
    count = counted(len(plan), "tensor")
    print(f"wrote {Path(options.out)}: {count}")


def _of_file(options: argparse.Namespace) -> Plan:
    with reading("the file", options.file):
        return plan_from_safetensors(
            options.file,
            recipe=options.recipe,
            recipe_arguments=dict(options.set),
            seed=options.seed or 0,
            dtype=options.dtype,
        )
