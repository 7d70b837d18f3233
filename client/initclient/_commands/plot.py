"""`initclient plot`."""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

from initcore import Plan
from initcore.report import Flow

from initclient._commands._models import named_function
from initclient._commands._options import (
    RAW,
    BadInput,
    add_backend,
    add_plan,
    add_seed,
    read_plan,
    refuse_plan_as_output,
)
from initclient._commands.terminal import STANDARD_OUTPUT, binary_output, say, write_data
from initclient._inspect import plot

_EPILOG = """\
examples:
  initclient plot plan.yaml -o report.html
  initclient plot plan.yaml -o report.html --model nets:make --batch nets:batch \\
      --recipe xavier --recipe he    signals under the plan and under two recipes

nets:make is a function in nets.py that takes no arguments and returns a torch.nn.Module;
nets:batch is a function that returns the model's input: a tensor, a tuple or a dict.
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "plot",
        help="draw the values of a plan as a page of figures",
        description="Draw a plan as one HTML file, which loads no other file: histograms of the\n"
        "values with their densities, singular values, tables. With --model and --batch, it\n"
        "also shows how signals and gradients spread through the model's layers.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        required=True,
        help="the page to write, for example report.html; - for standard output",
    )
    command.add_argument(
        "--title",
        metavar="TEXT",
        help="the page's title, for example 'Run 12' (default: the plan's file name)",
    )
    command.add_argument(
        "--max-tensors",
        metavar="N",
        type=int,
        default=256,
        help="draw at most N tensors, for example 50, and only list the others (default: "
        "%(default)s)",
    )
    group = command.add_argument_group("signals through a model (needs torch)")
    group.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="the function that makes the model, for example nets:make",
    )
    group.add_argument(
        "--batch",
        metavar="MODULE:FUNCTION",
        help="the function that makes the model's input, for example nets:batch",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        action="append",
        default=[],
        help="compare with the model as this recipe initializes it, for example he; may be "
        "repeated",
    )
    add_seed(command)
    command.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="the folder of the checkpoints that the plan takes values from, for example /models "
        "(default: $INITSERVE_CHECKPOINTS)",
    )
    add_backend(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if bool(options.model) != bool(options.batch):
        raise BadInput("--model and --batch belong together; give both")
    if options.recipe and not options.model:
        raise BadInput("--recipe needs a model; give --model and --batch")
    plan = read_plan(options)
    refuse_plan_as_output(options)
    flows = _flows(options, plan) if options.model else {}
    name = "standard input" if options.plan == "-" else os.path.basename(options.plan)
    arguments = {
        "flows": flows,
        "title": options.title or f"Plan {name}",
        "max_tensors": options.max_tensors,
        "backend": options.backend,
        "checkpoints": options.checkpoints,
        "progress": not options.quiet,
    }
    if options.out != STANDARD_OUTPUT:
        say(options, f"wrote {plot(plan, options.out, **arguments)}")
        return
    # Written whole first, so that an error leaves no half of a page in the pipe.
    with tempfile.TemporaryDirectory() as folder, binary_output():
        write_data(plot(plan, os.path.join(folder, "report.html"), **arguments).read_bytes())


def _flows(options: argparse.Namespace, plan: Plan) -> dict[str, Flow]:
    # Imported first: without torch, its error has the install command.
    import initclient.torch as ict  # isort: skip
    from torch import nn

    model = named_function("--model", options.model)()
    batch = named_function("--batch", options.batch)()
    if not isinstance(model, nn.Module):
        raise BadInput(f"--model is {options.model!r}, which returns {model!r}, no torch module")
    plans: dict[str, Any] = {"plan": plan}
    for recipe in options.recipe:
        plans[recipe] = ict.plan(model, recipe=recipe, seed=plan.seed)
    return ict.flow(
        model,
        plans,
        batch,
        target="local",
        backend=options.backend,
        checkpoints=options.checkpoints,
    )
