"""`initclient mount`."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from initcore.file import parse_shard_size
from initcore.show import counted, size_text

from initclient._commands._folders import PLAN_FILE
from initclient._commands._mount import check_mountpoint, files_beside, mount, tree_of
from initclient._commands._options import (
    RAW,
    BadInput,
    add_backend,
    add_checkpoints,
    add_plan,
    add_seed,
    add_service,
    read_plan,
    service_arguments,
)
from initclient._commands.terminal import print_note, say
from initclient._plan import warn_about
from initclient._source import make_request, source_of

_EPILOG = """\
examples:
  initclient mount plan.yaml /mnt/llama
  initclient mount acme/llama-8b /mnt/llama --shard-size 5GB
                                    a folder with plan.yaml, config.json, tokenizer files
  initclient mount plan.yaml /mnt/llama --target init.ml.svc:50051
  initclient mount model:acme/llama-8b@DIGEST /mnt/llama --target init.ml.svc:50051
  python -c 'import transformers as t; t.AutoModelForCausalLM.from_pretrained("/mnt/llama")'

Ctrl-C, SIGTERM or `fusermount3 -u MOUNTPOINT` unmounts. Needs mfusepy
(pip install 'initserve[mount]'), libfuse (apt-get install fuse3) and /dev/fuse.
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "mount",
        help="show the weights of a plan as a folder of files, computed when they are read",
        description="Show the weights of a plan as a read-only folder in the Hugging Face layout.\n"
        "Nothing is written to a disk: a read computes, or fetches, the bytes that it asks for.\n"
        "mmap works. PLAN may be a folder with a plan.yaml; the mount then shows the other\n"
        "files of this folder too, such as config.json.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    add_plan(command)
    command.add_argument(
        "mountpoint",
        metavar="MOUNTPOINT",
        help="an empty folder, for example /mnt/llama; it is made if its parent exists",
    )
    command.add_argument(
        "--shard-size",
        metavar="SIZE",
        help="show an index, and files of at most SIZE each, for example 5GB (default: one file, "
        "model.safetensors)",
    )
    command.add_argument(
        "--cache",
        metavar="SIZE",
        default="256MiB",
        help="memory for the weights that were read last, for example 1GiB, besides the kernel's "
        "page cache (default: %(default)s)",
    )
    command.add_argument(
        "--allow-other",
        action="store_true",
        help="let other users read the folder, such as other containers of a pod. If you are not "
        "root, /etc/fuse.conf must have the line user_allow_other",
    )
    add_service(command)
    add_seed(command)
    add_backend(command)
    add_checkpoints(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    mountpoint = Path(options.mountpoint)
    check_mountpoint(mountpoint)
    with ExitStack() as stack:
        beside = {}
        if os.path.isdir(options.plan):
            folder = Path(options.plan)
            if not (folder / PLAN_FILE).exists():
                raise BadInput(
                    f"the folder {folder} has no {PLAN_FILE}; give the folder of one model, or a "
                    "plan file"
                )
            beside = stack.enter_context(files_beside(folder))
            options.plan = str(folder / PLAN_FILE)
        plan = read_plan(options)
        source = source_of(
            backend=options.backend,
            checkpoints=options.checkpoints,
            **service_arguments(options),
        )
        request = make_request(plan, None, source)
        request.check()
        warn_about(request.layout.warnings)
        tree = tree_of(
            request,
            mountpoint,
            shard_size=sys.maxsize
            if options.shard_size is None
            else parse_shard_size(options.shard_size),
            cache=parse_shard_size(options.cache, "cache"),
            beside=beside,
        )
        size = f"{counted(len(plan), 'tensor')}, {size_text(tree.size)}"

        def ready() -> None:
            say(options, f"mounted {mountpoint}: {size}; Ctrl-C unmounts")
            sys.stdout.flush()

        mount(tree, mountpoint, for_all=options.allow_other, ready=ready, report=print_note)
    say(options, f"unmounted {mountpoint}")
