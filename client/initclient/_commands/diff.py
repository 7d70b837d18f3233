"""`initclient diff`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from initcore import Plan, PlanError

from initclient._commands._options import RAW, reading
from initclient._inspect import diff
from initclient._plan import as_plan


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "diff",
        help="say what differs between two plans, and whether it changes values",
        description="Say what differs between two plans: tensors, fields, seeds, and whether\n"
        "any value is another one. No value is made.",
        epilog="example:\n  initclient diff old.yaml new.yaml\n\n"
        "exit status: 0 the plans are the same, 1 they differ, 2 wrong plan or file.",
        formatter_class=RAW,
    )
    command.add_argument("left", metavar="A", help="plan file, YAML or JSON")
    command.add_argument("right", metavar="B", help="another one")
    command.add_argument("--json", action="store_true", help="print the differences as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    found = diff(_plan(options.left), _plan(options.right))
    print(json.dumps(found.to_dict(), indent=2) if options.json else found)
    if not found.same:
        raise SystemExit(1)


def _plan(path: str) -> Plan:
    try:
        with reading("the plan", path):
            return as_plan(path)
    except PlanError as error:
        error.add_note(f"this is wrong in {path}")
        raise
