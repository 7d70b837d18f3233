"""`initclient fetch`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from initcore.show import counted, size_text

from initclient._commands._options import (
    RAW,
    BadInput,
    add_backend,
    add_checkpoints,
    add_plan,
    add_seed,
    add_service,
    read_plan,
    refuse_plan_as_output,
    service_arguments,
)
from initclient._commands.terminal import STANDARD_OUTPUT, binary_output, say
from initclient._fetch_file import fetch_file, fetch_stream


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
        "  initclient fetch plan.yaml --out init.safetensors --checkpoints /models\n"
        "  initclient fetch plan.yaml --out - | aws s3 cp - s3://bucket/init.safetensors",
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        required=True,
        help="the file to write, for example init.safetensors; - for standard output",
    )
    command.add_argument(
        "--shard-size",
        metavar="SIZE",
        help="write a folder in the Hugging Face layout: an index, and files of at most SIZE each, "
        "for example 5GB",
    )
    command.add_argument(
        "--no-resume",
        action="store_false",
        dest="resume",
        help="start from the beginning, and keep no partial file if the fetch is interrupted",
    )
    command.add_argument(
        "--check",
        metavar="N",
        type=int,
        default=0,
        help="after the download, recompute N elements of each tensor, for example 8, at secret "
        "positions. This finds a server that computes other values (default: 0)",
    )
    add_service(command)
    add_seed(command)
    add_backend(command)
    add_checkpoints(command)
    command.add_argument(
        "--streams",
        metavar="N",
        type=int,
        help="download N parts of the file at the same time, for example 4 (default: chosen by "
        "the size of the file)",
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options)
    refuse_plan_as_output(options)
    start = time.perf_counter()
    arguments = {
        "backend": options.backend,
        "progress": not options.quiet,
        "checkpoints": options.checkpoints,
        **service_arguments(options),
    }
    to_pipe = options.out == STANDARD_OUTPUT
    if to_pipe:
        _check_for_pipe(options)
        with binary_output() as out:
            size = fetch_stream(plan, out, **arguments)
        where = "to standard output"
    else:
        path = fetch_file(
            plan,
            options.out,
            streams=options.streams,
            shard_size=options.shard_size,
            resume=options.resume,
            check=options.check,
            **arguments,
        )
        files = [*path.glob("model*.safetensors")] if path.is_dir() else [path]
        size, where = sum(file.stat().st_size for file in files), str(path)
    seconds = time.perf_counter() - start
    count = counted(len(plan), "tensor")
    speed = size_text(int(size / max(seconds, 1e-9)))
    text = f"wrote {where}: {count}, {size_text(size)} in {seconds:.2f} s ({speed}/s)"
    say(options, text, beside=to_pipe)


def _check_for_pipe(options: argparse.Namespace) -> None:
    """Refuses what a pipe cannot do.

    Raises:
        BadInput: naming the flag.
    """
    for flag, given, why in (
        ("--shard-size", options.shard_size is not None, "writes several files"),
        ("--check", options.check, "reads the file again before it appears"),
        ("--streams", options.streams not in (None, 1), "writes in several places at once"),
    ):
        if given:
            raise BadInput(f"{flag} {why}, and --out is - (standard output); give a file")
