"""Options that several commands share, and the function arguments that they become."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from initcore import Plan
from initcore.backends import BACKENDS, OFFERED_BACKENDS
from initcore.show.help import Help
from initcore.wire import parse_plan

from initclient._commands.terminal import refuse_as_output, say
from initclient._exceptions import InitserveError
from initclient._models import get_plan
from initclient._plan import Model, as_plan
from initclient._source import Credentials, Retry

RAW = Help

_TARGET_HELP = (
    "the server, as HOST:PORT, for example init.ml.svc:50051, or HOST for port 50051. Give several "
    "with commas, or repeat the option: if one fails, the call continues at another. "
    "dns:///NAME:PORT stands for all addresses of a name. `local` computes in this process "
    "(default: $INITSERVE_TARGET, else local)"
)
_SEED_HELP = (
    "use this seed instead of the plan's, for example 7 or 0x10. A model of a server has to allow "
    "it (seeds: open)"
)


_MODEL = "model:"

STANDARD_INPUT = "-"
"""The PLAN that stands for it."""


class BadInput(Exception):  # noqa: N818 - the command line alone ever sees it
    """Input that cannot be read."""


def add_plan(command: argparse.ArgumentParser) -> None:
    """Adds the argument PLAN."""
    command.add_argument(
        "plan",
        metavar="PLAN",
        help="a plan file in YAML or JSON, for example plan.yaml; or - for standard input; or "
        "model:NAME or model:NAME@DIGEST for a model of the server",
    )


def add_seed(command: argparse.ArgumentParser, text: str = _SEED_HELP) -> None:
    """Adds --seed."""
    command.add_argument("--seed", metavar="N", type=_seed, help=text)


def add_backend(command: argparse.ArgumentParser) -> None:
    """Adds --backend."""
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        metavar="{" + ",".join(OFFERED_BACKENDS) + "}",
        help="how this process computes the values, for example native. All backends give the "
        "same bits, at different speeds (default: $INITSERVE_BACKEND, else auto)",
    )


def add_service(command: argparse.ArgumentParser, *, retries: bool = True) -> None:
    """Adds the options that choose servers, retries, TLS and tokens."""
    group = command.add_argument_group("servers")
    group.add_argument("--target", metavar="ADDRESS", action="append", help=_TARGET_HELP)
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help="stop waiting for servers after SECONDS in all, for example 600 (default: "
        f"{'no limit' if retries else '10'})",
    )
    command.set_defaults(attempts=Retry.attempts)
    if retries:
        group.add_argument(
            "--attempts",
            metavar="N",
            type=int,
            default=Retry.attempts,
            help="give up after N failed calls in a row to each server, for example 30 while a "
            "service starts. Each new byte starts the count again (default: %(default)s)",
        )
    group.add_argument(
        "--tls",
        action="store_true",
        help="encrypt the calls, and trust the certificate authorities of this system",
    )
    group.add_argument(
        "--ca",
        metavar="FILE",
        help="encrypt the calls, and trust only the certificate authorities in this file, for "
        "example ca.pem",
    )
    group.add_argument(
        "--cert",
        metavar="FILE",
        help="show this client certificate to the server (mutual TLS), for example me.pem",
    )
    group.add_argument(
        "--key", metavar="FILE", help="the private key of --cert, for example me.key"
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="send the bearer token in this file with each call, for example token",
    )
    group.add_argument(
        "--plaintext-token",
        action="store_true",
        help="send the token even without TLS, for example where a service mesh encrypts",
    )


def add_checkpoints(command: argparse.ArgumentParser) -> None:
    """Adds --checkpoints."""
    command.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="the folder of the checkpoints that the plan takes values from, for example /models. "
        "It is for this process; a server has its own (default: $INITSERVE_CHECKPOINTS)",
    )


def service_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of fetch_file and describe that concern servers."""
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


def refuse_plan_as_output(options: argparse.Namespace) -> None:
    """Refuses an --out that is the file of PLAN.

    Raises:
        ValueError: if it is.
    """
    if options.plan != STANDARD_INPUT and not options.plan.startswith(_MODEL):
        refuse_as_output(options.out, "the plan", [options.plan])


def read_plan(options: argparse.Namespace) -> Plan:
    """The plan that PLAN and --seed name.

    A model is looked up at the server of --target; its digest goes to standard error.
    """
    if options.plan.startswith(_MODEL):
        name, at, digest = options.plan.removeprefix(_MODEL).partition("@")
        # plot draws in this process, and has no options of servers: the environment names one.
        arguments = service_arguments(options) if hasattr(options, "target") else {}
        found = get_plan(Model(name, digest if at else None, options.seed), **arguments)
        say(options, f"model {name} has the plan {found.digest}", beside=True)
        return found
    if options.plan != STANDARD_INPUT:
        with reading("the plan", options.plan):
            return as_plan(options.plan, options.seed)
    if sys.__stdin__ is None:
        raise BadInput("PLAN is - (standard input), and standard input is closed; give a file")
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
    """The operating system's message, without the error number."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
