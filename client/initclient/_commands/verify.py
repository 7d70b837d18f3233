"""`initclient verify`."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from initcore.backends import BACKENDS

from initclient._checking import Verification, VerificationError
from initclient._commands._options import (
    RAW,
    add_checkpoints,
    add_plan,
    add_seed,
    add_service,
    read_plan,
    reading,
    service_arguments,
)
from initclient._commands._progress import progress_bar
from initclient._verify import verify


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "verify",
        help="compare a safetensors file with its plan, to the bit",
        description="Compare the weights in FILE with those of a plan, to the bit. FILE is a\n"
        "safetensors file, a Hugging Face index or a folder with either. This process also\n"
        "shows where a tensor differs; with --target, a server sends 16 bytes a tensor.",
        epilog="examples:\n  initclient verify init.safetensors plan.yaml\n"
        "  initclient verify model/ plan.yaml --target init.ml.svc:50051 --ignore '*.inv_freq'\n\n"
        "exit status: 0 equal; 1 different (the tensors are named), or no server answers;\n"
        "2 wrong file, plan or arguments.",
        formatter_class=RAW,
    )
    command.add_argument(
        "file", metavar="FILE", help="safetensors file, index or folder, for example model/"
    )
    add_plan(command)
    command.add_argument(
        "--partial",
        action="store_true",
        help="accept a file without some tensors of the plan, for example of one pipeline stage",
    )
    command.add_argument(
        "--ignore",
        metavar="GLOB",
        action="append",
        default=[],
        help="leave out names that match, for example '*.inv_freq'; may be repeated",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    add_service(command)
    add_seed(command)
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        help="the backend that computes in this process, for example native (default: "
        "$INITSERVE_BACKEND, else auto)",
    )
    add_checkpoints(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options)
    try:
        with (
            reading("the file", options.file),
            progress_bar(os.path.basename(options.file)) as progress,
        ):
            report = verify(
                options.file,
                plan,
                partial=options.partial,
                ignore=options.ignore,
                backend=options.backend,
                checkpoints=options.checkpoints,
                progress=progress,
                **service_arguments(options),
            )
    except VerificationError as error:
        if options.json:
            print(_json(error.report))
            raise SystemExit(1) from None
        raise
    print(_json(report) if options.json else report)


def _json(report: Verification) -> str:
    form = {
        "ok": report.ok,
        "plan_digest": report.plan_digest,
        "agreed": list(report.agreed),
        "left_out": list(report.left_out),
        "remark": report.remark,
        "mismatches": [
            {"name": one.name, "kind": one.kind, "message": one.message}
            for one in report.mismatches
        ],
        "fingerprints": {name: str(value) for name, value in report.fingerprints.items()},
    }
    return json.dumps(form, indent=2)
