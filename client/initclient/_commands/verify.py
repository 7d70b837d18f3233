"""`initclient verify`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from initclient._checking import Verification, VerificationError
from initclient._commands._options import (
    RAW,
    add_backend,
    add_checkpoints,
    add_plan,
    add_seed,
    add_service,
    read_plan,
    reading,
    service_arguments,
)
from initclient._commands.terminal import show
from initclient._verify import verify


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "verify",
        help="compare a file or a checkpoint with its plan, to the bit",
        description="Compare the weights in FILE with those of a plan, to the bit. FILE is a\n"
        "safetensors file, a Hugging Face index, a folder with either, a folder of\n"
        "torch.distributed.checkpoint, or a folder of Orbax. Without a server, this process\n"
        "recomputes the values, and shows where a tensor differs. With --target, a server sends\n"
        "a fingerprint of 16 bytes for each tensor.",
        epilog="examples:\n  initclient verify init.safetensors plan.yaml\n"
        "  initclient verify checkpoint/step-0 plan.yaml --prefix model\n"
        "  initclient verify orbax/0 plan.yaml --prefix params\n"
        "  initclient verify model/ plan.yaml --target init.ml.svc:50051 --ignore '*.inv_freq'\n\n"
        "exit status: 0 equal; 1 different (the error names the tensors), or no server answers;\n"
        "2 wrong file, plan or arguments.",
        formatter_class=RAW,
    )
    command.add_argument("file", metavar="FILE", help="file, index or folder, for example model/")
    add_plan(command)
    command.add_argument(
        "--partial",
        action="store_true",
        help="accept a file that has only some tensors of the plan, for example those of one "
        "pipeline stage",
    )
    command.add_argument(
        "--ignore",
        metavar="GLOB",
        action="append",
        default=[],
        help="do not compare tensors whose names match, for example '*.inv_freq'; may be repeated",
    )
    command.add_argument(
        "--prefix",
        metavar="NAME",
        default="",
        help="compare only the tensors of FILE under this name, for example model in a checkpoint "
        "of a model and an optimizer",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    add_service(command)
    add_seed(command)
    add_backend(command)
    add_checkpoints(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options)
    try:
        with reading("the file", options.file):
            report = verify(
                options.file,
                plan,
                partial=options.partial,
                ignore=options.ignore,
                prefix=options.prefix,
                backend=options.backend,
                checkpoints=options.checkpoints,
                progress=not options.quiet,
                **service_arguments(options),
            )
    except VerificationError as error:
        if options.json:
            print(_json(error.report))
            raise SystemExit(1) from None
        raise
    if options.json:
        print(_json(report))
    else:
        show(report)


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
