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
        "or not at all; one that is there already is replaced in one step. The plan may\n"
        "be larger than memory. A fetch that was cut goes on where it was when it is\n"
        "given again.",
        epilog="examples:\n  initclient fetch plan.yaml --out init.safetensors --seed 7\n"
        "  initclient fetch plan.yaml --out init.safetensors --target init.ml.svc:50051\n"
        "  initclient fetch plan.yaml --out model --shard-size 5GB\n"
        "  initclient fetch plan.yaml --out init.safetensors --checkpoints /models",
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument("--out", metavar="FILE", required=True, help="the file to write")
    command.add_argument(
        "--shard-size",
        metavar="SIZE",
        help="write the Hugging Face layout into the folder --out: files of at most so much, such "
        "as 5GB, and their index",
    )
    command.add_argument(
        "--no-resume",
        action="store_false",
        dest="resume",
        help="start anew, and keep nothing if it is cut",
    )
    add_service(command)
    add_seed(command)
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what computes in this process: always the same bits, at different speed "
        "(default: $INITSERVE_BACKEND, else auto)",
    )
    add_checkpoints(command)
    command.add_argument(
        "--streams",
        metavar="N",
        type=int,
        help="parallel streams from servers (default: chosen by size)",
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
