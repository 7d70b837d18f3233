"""`initclient describe`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from initcore.show import print_description

from initclient._commands._options import (
    RAW,
    add_checkpoints,
    add_plan,
    add_seed,
    add_service,
    read_plan,
    service_arguments,
)
from initclient._commands._progress import progress_bar
from initclient._inspect import describe


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "describe",
        help="say what a plan makes, without making it",
        description="Say what a plan makes: shapes, fans, standard deviations or bounds, bytes,\n"
        "and whatever is unusual about it. Without --fingerprints nothing is computed.\n"
        "With a folder of checkpoints: whether they have what the plan takes from them.",
        epilog="examples:\n  initclient describe plan.yaml\n"
        "  initclient describe plan.yaml --json | jq .digest\n"
        "  initclient describe plan.yaml --checkpoints /models",
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument(
        "--fingerprints",
        action="store_true",
        help="have every value made, and show the tensors' fingerprints",
    )
    command.add_argument(
        "--parts", action="store_true", help="show what composed tensors are made of, too"
    )
    add_service(command)
    add_seed(command)
    add_checkpoints(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options)
    with progress_bar("fingerprints") as progress:
        description = describe(
            plan,
            fingerprints=options.fingerprints,
            progress=progress,
            checkpoints=options.checkpoints,
            **service_arguments(options),
        )
    if options.json:
        print(json.dumps(description.to_dict(), indent=2))
    else:
        print_description(description, sys.stdout, parts=options.parts)
