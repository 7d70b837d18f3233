"""`initclient describe`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from initcore.show import json_text, print_description

from initclient._commands._options import (
    RAW,
    add_checkpoints,
    add_plan,
    add_seed,
    add_service,
    read_plan,
    service_arguments,
)
from initclient._inspect import describe


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "describe",
        help="show the tensors of a plan, without making values",
        description="Show each tensor of a plan: shape, fans, standard deviation or bounds,\n"
        "bytes. Then show totals, warnings and notes. Only --fingerprints computes values.\n"
        "With --checkpoints, check that the checkpoints have all tensors that the plan takes\n"
        "from them.",
        epilog="examples:\n  initclient describe plan.yaml\n"
        "  initclient describe plan.yaml --all\n"
        "  initclient describe plan.yaml --json | jq .digest\n"
        "  initclient describe plan.yaml --checkpoints /models\n"
        "  initclient describe plan.yaml --fingerprints --target init.ml.svc:50051",
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument(
        "--fingerprints",
        action="store_true",
        help="compute every value, here or on the server, and show each tensor's fingerprint",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="give every tensor its own row. Without this, tensors whose names differ only in "
        "numbers, such as those of a model's layers, share a row",
    )
    command.add_argument(
        "--parts", action="store_true", help="show the parts of composed tensors too"
    )
    add_service(command)
    add_seed(command)
    add_checkpoints(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options)
    description = describe(
        plan,
        fingerprints=options.fingerprints,
        progress=not options.quiet,
        checkpoints=options.checkpoints,
        **service_arguments(options),
    )
    if options.json:
        sys.stdout.writelines(json_text(description))
        print()
    else:
        print_description(description, sys.stdout, parts=options.parts, every=options.all)
