"""`initclient completion`."""

from __future__ import annotations

import argparse
from typing import Any

from initcore import MissingPackageError

from initclient._commands._options import RAW

_SHELLS = ("bash", "zsh", "tcsh")

_EPILOG = """\
examples:
  eval "$(initclient completion bash)"                       put this line into ~/.bashrc
  initclient completion zsh > ~/.zfunc/_initclient           ~/.zfunc must be in fpath
  initclient completion tcsh > ~/.initclient.tcsh            source this file in ~/.tcshrc
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "completion",
        help="print a script that completes commands and flags in a shell",
        description="Print a script for a shell. With it, TAB completes commands, flags, backends\n"
        "and file names. It needs shtab: pip install 'initserve[completion]'.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    command.add_argument("shell", metavar="SHELL", choices=_SHELLS, help="bash, zsh or tcsh")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise MissingPackageError("shtab", "completion", "initclient completion") from error
    print(shtab.complete(options.parser, shell=options.shell))
