"""`initclient plot`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from initcore import Plan
from initcore.backends import BACKENDS
from initcore.report import Flow

from initclient._commands._models import named_function
from initclient._commands._options import RAW, BadInput, add_plan, add_seed, read_plan
from initclient._commands._progress import progress_bar
from initclient._inspect import plot

_EPILOG = """\
examples:
  initclient plot plan.yaml -o report.html
  initclient plot plan.yaml -o report.html --model nets:make --batch nets:batch \\
      --recipe torch --recipe he     signals under the plan and under two recipes

nets:make is a function in nets.py that takes no arguments and returns a torch.nn.Module;
nets:batch is one that returns the model's input: a tensor, a tuple or a dict.
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "plot",
        help="draw the values of a plan as a page of figures",
        description="Draw a plan as one HTML file that loads nothing: histograms of the values\n"
        "against their densities, singular values, tables. With --model and --batch, also\n"
        "how signals and gradients spread through the model's layers.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        required=True,
        help="the page to write, for example report.html",
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
        help="sample at most N tensors and list the others, for example 50 (default: %(default)s)",
    )
    group = command.add_argument_group("signals through a model (needs torch)")
    group.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="function that makes the model, for example nets:make",
    )
    group.add_argument(
        "--batch",
        metavar="MODULE:FUNCTION",
        help="function that makes its input, for example nets:batch",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        action="append",
        default=[],
        help="compare with the model under this recipe, for example he; may be repeated",
    )
    add_seed(command)
    command.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="the folder of the checkpoints that the plan takes values from, for example /models "
        "(default: $INITSERVE_CHECKPOINTS)",
    )
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        help="the backend that computes, for example native (default: $INITSERVE_BACKEND, else "
        "auto)",
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if bool(options.model) != bool(options.batch):
        raise BadInput("--model and --batch belong together; give both")
    if options.recipe and not options.model:
        raise BadInput("--recipe needs a model; give --model and --batch")
    plan = read_plan(options)
    flows = _flows(options, plan) if options.model else {}
    name = "standard input" if options.plan == "-" else os.path.basename(options.plan)
    with progress_bar(os.path.basename(options.out)) as progress:
        path = plot(
            plan,
            options.out,
            flows=flows,
            title=options.title or f"Plan {name}",
            max_tensors=options.max_tensors,
            backend=options.backend,
            checkpoints=options.checkpoints,
            progress=progress,
        )
    print(f"wrote {path}")


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
