"""Options that several commands share, and what they mean to the functions behind them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from initcore import Plan
from initcore.wire import parse_plan

from initclient._exceptions import InitserveError
from initclient._plan import as_plan
from initclient._source import Credentials, Retry

RAW = argparse.RawDescriptionHelpFormatter

_TARGET_HELP = (
    "HOST:PORT of a server; several with commas, or the option again, to go on at another one "
    "where one fails; dns:///NAME:PORT for all addresses of a name; `local` to compute here "
    "whatever INITSERVE_TARGET says (default: $INITSERVE_TARGET, else compute here)"
)
_SEED_HELP = "seed of the plan, instead of the one in the file"


class BadInput(Exception):  # noqa: N818 - the command line alone ever sees it
    """Input that cannot be read."""


def add_plan(command: argparse.ArgumentParser) -> None:
    """Adds the argument PLAN."""
    command.add_argument("plan", metavar="PLAN", help="plan file, YAML or JSON; - reads stdin")


def add_seed(command: argparse.ArgumentParser, text: str = _SEED_HELP) -> None:
    """Adds --seed."""
    command.add_argument("--seed", metavar="N", type=_seed, help=text)


def add_service(command: argparse.ArgumentParser) -> None:
    """Adds what says which servers are asked, and how."""
    group = command.add_argument_group("servers")
    group.add_argument("--target", metavar="ADDRESS", action="append", help=_TARGET_HELP)
    group.add_argument(
        "--timeout", metavar="SECONDS", type=float, help="give up on servers after this long in all"
    )
    group.add_argument(
        "--attempts",
        metavar="N",
        type=int,
        default=Retry.attempts,
        help="failed calls in a row to each server, without a new byte, after which to give up "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--tls", action="store_true", help="encrypt, and trust the authorities of this system"
    )
    group.add_argument(
        "--ca", metavar="FILE", help="encrypt, and trust the authorities in this file"
    )
    group.add_argument("--cert", metavar="FILE", help="this client's certificate, for mutual TLS")
    group.add_argument("--key", metavar="FILE", help="its private key")
    group.add_argument(
        "--token-file", metavar="FILE", help="send the bearer token in this file with each call"
    )
    group.add_argument(
        "--plaintext-token",
        action="store_true",
        help="send it even where this client does not encrypt, because something else does",
    )


def add_checkpoints(command: argparse.ArgumentParser) -> None:
    """Adds --checkpoints."""
    command.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="where checkpoints lie that the plan takes values from, when computing here; servers "
        "have a folder of their own (default: $INITSERVE_CHECKPOINTS)",
    )


def service_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What fetch_file and describe take about servers."""
    names = ("tls", "ca", "cert", "key", "token_file", "plaintext_token")
    given = {name: getattr(options, name) for name in names if getattr(options, name)}
    return {
        "target": options.target,
        "timeout": options.timeout,
        "retry": Retry(attempts=options.attempts),
        "credentials": Credentials(**given) if given else None,
    }


def _seed(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None


def read_plan(options: argparse.Namespace) -> Plan:
    """The plan that PLAN and --seed name."""
    if options.plan != "-":
        with reading("the plan", options.plan):
            return as_plan(options.plan, options.seed)
    with reading("the plan", "standard input"):
        text = sys.stdin.read()
    return as_plan(parse_plan(text, source="standard input"), options.seed)


@contextmanager
def reading(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """The body reads a file that the user named.

    Raises:
        BadInput: if it cannot be read.
    """
    try:
        yield
    except InitserveError:
        raise  # a timeout is an OSError too
    except OSError as error:
        raise BadInput(f"cannot read {what}: {os_text(error)}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"cannot read {what}: {os.fspath(path)} is not text ({error})") from error


def os_text(error: OSError) -> str:
    """What the operating system says, without its number."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
