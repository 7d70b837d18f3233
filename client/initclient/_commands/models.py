"""`initclient models`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from initcore.show import counted, size_text

from initclient._commands._options import RAW, add_service, service_arguments
from initclient._commands.terminal import show
from initclient._models import list_models

_EPILOG = """\
examples:
  initclient models --target init.ml.svc:50051
  initclient describe model:acme/llama-8b --target init.ml.svc:50051
  initclient fetch model:acme/llama-8b@DIGEST --out model --shard-size 5GB --target ...
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "models",
        help="list the models that a server has by name",
        description="List the models of a server (initserver --models): name, digest, tensors,\n"
        "bytes. Other commands accept model:NAME or model:NAME@DIGEST in place of a plan file.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    command.add_argument("--json", action="store_true", help="print a JSON list of the models")
    add_service(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    models = list_models(**service_arguments(options))
    if options.json:
        print(json.dumps([asdict(model) for model in models], indent=2))
        return
    width = max((len(model.name) for model in models), default=0)
    for model in models:
        count = counted(model.tensors, "tensor")
        show(f"{model.name:{width}}  {model.digest}  {count}, {size_text(model.nbytes)}")
    if not models:
        print("the server has no models (initserver --models)")
