"""`initclient diff`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from initcore import Plan, PlanError

from initclient._commands._options import RAW, reading
from initclient._commands.terminal import show
from initclient._inspect import diff
from initclient._plan import as_plan


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "diff",
        help="compare two plans, and say whether values differ",
        description="Compare two plans: show which tensors, fields and seeds differ, and whether\n"
        "any value differs. No value is made.",
        epilog="examples:\n  initclient diff old.yaml new.yaml\n"
        "  initclient diff old.yaml new.yaml --json\n\n"
        "exit status: 0 both plans give the same file; 1 they differ; 2 wrong plan or file.",
        formatter_class=RAW,
    )
    command.add_argument(
        "left", metavar="A", help="plan file in YAML or JSON, for example old.yaml"
    )
    command.add_argument(
        "right", metavar="B", help="the plan file to compare it with, for example new.yaml"
    )
    command.add_argument("--json", action="store_true", help="print the differences as JSON")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    found = diff(_plan(options.left), _plan(options.right))
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        show(found)
    if not found.same:
        raise SystemExit(1)


def _plan(path: str) -> Plan:
    try:
        with reading("the plan", path):
            return as_plan(path)
    except PlanError as error:
        error.add_note(f"the wrong plan is {path}")
        raise
