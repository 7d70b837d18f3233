"""`initclient plot`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from initcore import Plan
from initcore.backends import BACKENDS
from initcore.report import Flow

from initclient._commands._options import RAW, BadInput, add_plan, add_seed, read_plan
from initclient._commands._progress import progress_bar
from initclient._inspect import plot

_EPILOG = """\
examples:
  initclient plot plan.yaml -o report.html
  initclient plot plan.yaml -o report.html --model nets:make --batch nets:batch \\
      --recipe torch --recipe he     how signals travel, for the plan and two recipes

nets:make is a function without arguments in nets.py that returns a torch.nn.Module, and
nets:batch one that returns what it is called with: a tensor, a tuple or a dict.
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "plot",
        help="write a page that shows what a plan's tensors hold",
        description="Write a page that shows a plan: histograms of the values against their ideal\n"
        "density, singular values, tables; with a model and a batch, how signals travel\n"
        "through its layers. One HTML file that loads nothing.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument("-o", "--out", metavar="FILE", required=True, help="the page to write")
    command.add_argument("--title", metavar="TEXT", help="its title (default: the plan's file)")
    command.add_argument(
        "--max-tensors",
        metavar="N",
        type=int,
        default=256,
        help="how many tensors are sampled; the others are listed (default: %(default)s)",
    )
    group = command.add_argument_group("signals through a model (needs torch)")
    group.add_argument("--model", metavar="MODULE:FUNCTION", help="makes the model")
    group.add_argument("--batch", metavar="MODULE:FUNCTION", help="makes what it is called with")
    group.add_argument(
        "--recipe",
        metavar="NAME",
        action="append",
        default=[],
        help="a recipe to show beside the plan; may be given again",
    )
    add_seed(command)
    command.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="where checkpoints lie that the plan takes values from "
        "(default: $INITSERVE_CHECKPOINTS)",
    )
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what computes (default: $INITSERVE_BACKEND, else auto)",
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if bool(options.model) != bool(options.batch):
        raise BadInput("--model and --batch belong together; give both")
    if options.recipe and not options.model:
        raise BadInput("--recipe says how signals travel through a model; give --model and --batch")
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
    # First, for its error where torch is not there.
    import initclient.torch as ict  # isort: skip
    from torch import nn

    model, batch = _made("--model", options.model), _made("--batch", options.batch)
    if not isinstance(model, nn.Module):
        raise BadInput(f"--model is {options.model!r}, which returns {model!r} and no torch module")
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


def _made(option: str, text: str) -> Any:
    """What a function returns that is named as MODULE:FUNCTION."""
    module, _, function = text.partition(":")
    if not module or not function or module.startswith("."):
        raise BadInput(f"{option} is {text!r}; give it as MODULE:FUNCTION, such as nets:make")
    # As `python -m` does: modules of the current folder are found first.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"{option} is {text!r}: {error}") from error
    if not callable(found):
        raise BadInput(f"{option} is {text!r}, which is {found!r} and no function")
    return found()
