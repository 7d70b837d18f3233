"""`initclient plan`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from initcore import Plan
from initcore.show import counted
from initcore.wire import format_plan

from initclient._commands._folders import CONFIG_FILE, files_of_model, write_model_folder
from initclient._commands._models import config_of, recorded
from initclient._commands._options import RAW, BadInput, add_seed, reading
from initclient._commands.terminal import (
    STANDARD_OUTPUT,
    refuse_as_output,
    say,
    weights_at,
    write_data,
)
from initclient._files import replacing
from initclient._from_safetensors import plan_from_safetensors

_EPILOG = """\
examples:
  initclient plan trained.safetensors --recipe gpt2 --seed 7 --out plan.yaml
  initclient plan model/ --recipe own.yaml --set layers=12 --dtype bf16 --out plan.yaml
  initclient plan model.safetensors.index.json --recipe llama | initclient describe -
  initclient plan --model config.json --seed 7 --out plan.yaml
  initclient plan --model nets:make --seed 7 --out plan.yaml
  initclient plan --model config.json --seed 7 --out models/acme/small/

The last example makes a model folder, for `initserver --models models` and `initclient mount`. It
has plan.yaml, config.json, and the generation config and tokenizer files from beside the config.

With --model, the command runs the model's own initialization code, without memory and without
weights, and makes a plan of what it draws. nets:make is a function in nets.py that returns a
torch.nn.Module.
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "plan",
        help="make a plan from a checkpoint's names and shapes, or from a model's own code",
        description="Make a plan. Its names, shapes and element types come from a checkpoint,\n"
        "whose values are not read, and its distributions from a recipe. Or, with --model,\n"
        "all of it comes from a model's own code.",
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
        help="the recipe for FILE, for example gpt2 (`initclient recipes` lists all), or a YAML "
        "file with a recipe of your own",
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
        help="the plan file to write, for example plan.yaml; JSON if the name ends in .json. If "
        "PLAN is a folder or ends in /, make a model folder there (default: print the plan)",
    )
    command.add_argument(
        "--model",
        metavar="MODEL",
        help="in place of FILE: a config.json of transformers, the folder that has it, or "
        "MODULE:FUNCTION, for example nets:make (needs torch)",
    )
    command.add_argument(
        "--device",
        choices=("meta", "cpu"),
        default="meta",
        help="the device on which --model is built. meta takes no memory. cpu takes the memory of "
        "the model, for code that needs values (default: %(default)s)",
    )
    command.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the model's code that is beside the config, or in a place that the config names",
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
        raise BadInput("FILE has only names and shapes; give --recipe NAME for the distributions")
    if options.model is not None and (options.recipe or options.set):
        raise BadInput("--recipe and --set are for FILE; --model records the model's own code")
    if options.model is None:
        refuse_as_output(options.out, "the checkpoint", weights_at(options.file))
        refuse_as_output(options.out, "the recipe", [options.recipe])
        plan = _of_file(options)
    else:
        refuse_as_output(options.out, "the config", [config_of(options.model)])
        recording = recorded(
            options.model, device=options.device, trust_remote_code=options.trust_remote_code
        )
        for note in recording.notes:
            say(options, f"initclient: {note}", beside=True)
        plan = recording.plan(options.seed or 0, dtype=options.dtype)
    if options.out in (None, STANDARD_OUTPUT):
        write_data(format_plan(plan).encode())
        return
    if options.out.endswith(os.sep) or os.path.isdir(options.out):
        _make_folder(options, plan)
        return
    text = format_plan(plan, json_form=options.out.endswith(".json"))
    with replacing(options.out) as file:
        file.write(text.encode())
    count = counted(len(plan), "tensor")
    say(options, f"wrote {Path(options.out)}: {count}")


def _make_folder(options: argparse.Namespace, plan: Plan) -> None:
    """Writes the plan and what belongs to it into the folder of --out."""
    out, beside = Path(options.out), {}
    config = None if options.model is None else config_of(options.model)
    if config is not None or options.file is not None:
        place = Path(config or options.file)
        place = place if place.is_dir() else place.parent
        with reading("the files beside the model", place):
            beside = files_of_model(place, code=options.trust_remote_code)
    if config is not None:
        # The config that was recorded, whatever its name is.
        beside[CONFIG_FILE] = Path(config)
    written = write_model_folder(out, format_plan(plan).encode(), beside)
    files = ", ".join(written) if written else "every file was there"
    say(options, f"wrote {out}: {counted(len(plan), 'tensor')} ({files})")


def _of_file(options: argparse.Namespace) -> Plan:
    with reading("the file", options.file):
        return plan_from_safetensors(
            options.file,
            recipe=options.recipe,
            recipe_arguments=dict(options.set),
            seed=options.seed or 0,
            dtype=options.dtype,
        )
