"""`initclient fetch`."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from initcore.backends import BACKENDS
from initcore.show import counted, size_text

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
from initclient._fetch_file import fetch_file


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "fetch",
        help="write the weights of a plan to a safetensors file",
        description="Write the weights of a plan to a safetensors file. The file appears whole\n"
        "or not at all, and replaces an existing file in one step. The plan may be larger\n"
        "than memory. To resume an interrupted fetch, run the same command again.",
        epilog="examples:\n  initclient fetch plan.yaml --out init.safetensors --seed 7\n"
        "  initclient fetch plan.yaml --out init.safetensors --target init.ml.svc:50051\n"
        "  initclient fetch plan.yaml --out model --shard-size 5GB\n"
        "  initclient fetch plan.yaml --out init.safetensors --checkpoints /models",
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        required=True,
        help="the file to write, for example init.safetensors",
    )
    command.add_argument(
        "--shard-size",
        metavar="SIZE",
        help="write a folder in the Hugging Face layout: an index, and files of at most SIZE, for "
        "example 5GB",
    )
    command.add_argument(
        "--no-resume",
        action="store_false",
        dest="resume",
        help="start from the beginning, and keep no partial file if interrupted",
    )
    command.add_argument(
        "--check",
        metavar="N",
        type=int,
        default=0,
        help="recompute N elements of each tensor after the download, at secret positions, for "
        "example 8: finds a server that computes other values (default: 0)",
    )
    add_service(command)
    add_seed(command)
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        help="the backend that computes in this process, for example native: the same bits, at "
        "different speed (default: $INITSERVE_BACKEND, else auto)",
    )
    add_checkpoints(command)
    command.add_argument(
        "--streams",
        metavar="N",
        type=int,
        help="number of parallel streams from servers, for example 4 (default: chosen by size)",
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options)
    start = time.perf_counter()
    with progress_bar(os.path.basename(os.path.normpath(options.out))) as progress:
        path = fetch_file(
            plan,
            options.out,
            backend=options.backend,
            progress=progress,
            streams=options.streams,
            shard_size=options.shard_size,
            resume=options.resume,
            checkpoints=options.checkpoints,
            check=options.check,
            **service_arguments(options),
        )
    seconds = time.perf_counter() - start
    files = [*path.glob("model*.safetensors")] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    count = counted(len(plan), "tensor")
    print(
        f"wrote {path}: {count}, {size_text(size)} in {seconds:.2f} s "
        f"({size_text(int(size / max(seconds, 1e-9)))}/s)"
    )
