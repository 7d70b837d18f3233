"""The command `initclient`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from initcore import (
    STREAM_VERSION,
    BackendError,
    MissingPackageError,
    Plan,
    PlanError,
    Violation,
    __version__,
)
from initcore.backends import BACKENDS
from initcore.plan_file import parse_plan

from initclient._credentials import Credentials
from initclient._describe import describe
from initclient._exceptions import InitserveError, PlanWarning
from initclient._fetch import fetch_file
from initclient._plans import as_plan
from initclient._progress import progress_bar
from initclient._retry import Retry
from initclient._tables import print_description, size_text

_DESCRIPTION = """\
Initial weights from a plan: the same bits in this process and from every server.

A plan names tensors and says how each is drawn, in YAML or JSON:

  seed: 7
  tensors:
    - {name: fc.weight, shape: [4096, 1024], dtype: BF16, scheme: KAIMING_NORMAL, nonlinearity: RELU}
    - {name: fc.bias, shape: [4096], scheme: ZEROS}
"""  # noqa: E501 - the longest line shows a whole tensor

_EXAMPLES = """\
examples:
  initclient describe plan.yaml                         what it makes: shapes, fans, spreads
  initclient fetch plan.yaml --out init.safetensors     compute it here
  initclient fetch plan.yaml --out init.safetensors --target init.ml.svc:50051
                                                        get it from a server: the same bits
  initclient fetch plan.yaml --out init.safetensors --target a:50051,b:50051 --ca ca.pem
                                                        from either of two, encrypted
  generate-plan | initclient fetch - --out init.safetensors --seed 1

environment:
  INITSERVE_TARGET      the servers that are asked where --target is not given
  INITSERVE_BACKEND     what computes in this process where --backend is not given
  INITSERVE_TLS=1, INITSERVE_CA, INITSERVE_CERT, INITSERVE_KEY, INITSERVE_TOKEN_FILE
                        as --tls, --ca, --cert, --key, --token-file where none of these is given

exit status: 0 done, 1 failed (no server, damaged data, disk full), 2 wrong plan or arguments.
"""

_TARGET_HELP = (
    "HOST:PORT of a server; several with commas, or the option again, to go on at another one "
    "where one fails; dns:///NAME:PORT for all addresses of a name; `local` to compute here "
    "whatever INITSERVE_TARGET says (default: $INITSERVE_TARGET, else compute here)"
)
_SEED_HELP = "seed of the plan, instead of the one in the file"
_SHOWN_VIOLATIONS = 20


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="initclient", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=raw
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"initclient {__version__} (stream v{STREAM_VERSION})",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser(
        "fetch",
        help="write the weights of a plan to a safetensors file",
        description="Write the weights of a plan to a safetensors file. The file appears whole\n"
        "or not at all; one that is there already is replaced in one step. The plan may\n"
        "be larger than memory.",
        epilog="example:\n  initclient fetch plan.yaml --out init.safetensors --seed 7",
        formatter_class=raw,
    )
    _add_plan(command)
    command.add_argument("--out", metavar="FILE", required=True, help="the file to write")
    _add_service(command)
    command.add_argument("--seed", metavar="N", type=_seed, help=_SEED_HELP)
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what computes in this process: always the same bits, at different speed "
        "(default: $INITSERVE_BACKEND, else auto)",
    )
    command.add_argument(
        "--streams",
        metavar="N",
        type=int,
        help="parallel streams from servers (default: chosen by size)",
    )
    command.set_defaults(run=_fetch)

    command = commands.add_parser(
        "describe",
        help="say what a plan makes, without making it",
        description="Say what a plan makes: shapes, fans, standard deviations or bounds, bytes,\n"
        "and whatever is unusual about it. Nothing is computed.",
        epilog="example:\n  initclient describe plan.yaml --json | jq .digest",
        formatter_class=raw,
    )
    _add_plan(command)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_service(command)
    command.add_argument("--seed", metavar="N", type=_seed, help=_SEED_HELP)
    command.set_defaults(run=_describe)
    return parser


def _add_plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("plan", metavar="PLAN", help="plan file, YAML or JSON; - reads stdin")


def _add_service(command: argparse.ArgumentParser) -> None:
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


def _service_arguments(options: argparse.Namespace) -> dict[str, Any]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _exit_cleanly)
    with warnings.catch_warnings():
        warnings.simplefilter("always", PlanWarning)
        warnings.showwarning = _show_warning
        try:
            options.run(options)
            sys.stdout.flush()
        except _BadInput as error:
            return _failed(str(error), 2)
        except PlanError as error:
            return _failed(_violations_text(error.violations), 2)
        except BrokenPipeError:
            # Whoever read the output has seen enough; nothing is left to flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (InitserveError, BackendError, MissingPackageError) as error:
            return _failed(str(error), 1)
        except OSError as error:
            return _failed(_os_text(error), 1)
        except ValueError as error:
            return _failed(str(error), 2)
        except KeyboardInterrupt:
            return _failed("interrupted", 130)
        finally:
            signal.signal(signal.SIGTERM, before)
    return 0


class _BadInput(Exception):  # noqa: N818 - never leaves this module
    """Input that cannot be read."""


def _fetch(options: argparse.Namespace) -> None:
    plan = _read_plan(options)
    start = time.perf_counter()
    with progress_bar(os.path.basename(options.out)) as progress:
        path = fetch_file(
            plan,
            options.out,
            backend=options.backend,
            progress=progress,
            streams=options.streams,
            **_service_arguments(options),
        )
    seconds = time.perf_counter() - start
    size = path.stat().st_size
    count = "1 tensor" if len(plan) == 1 else f"{len(plan)} tensors"
    print(
        f"wrote {path}: {count}, {size_text(size)} in {seconds:.2f} s "
        f"({size_text(int(size / max(seconds, 1e-9)))}/s)"
    )


def _describe(options: argparse.Namespace) -> None:
    description = describe(_read_plan(options), **_service_arguments(options))
    if options.json:
        print(json.dumps(description.to_dict(), indent=2))
    else:
        print_description(description, sys.stdout)


def _read_plan(options: argparse.Namespace) -> Plan:
    try:
        if options.plan == "-":
            plan = parse_plan(sys.stdin.read(), source="standard input")
            return as_plan(plan, options.seed)
        return as_plan(options.plan, options.seed)
    except OSError as error:
        raise _BadInput(f"cannot read the plan: {_os_text(error)}") from error
    except UnicodeDecodeError as error:
        raise _BadInput(f"cannot read the plan: {options.plan} is not text ({error})") from error


def _os_text(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _violations_text(violations: Sequence[Violation]) -> str:
    if len(violations) == 1:
        return str(violations[0])
    lines = [f"the plan has {len(violations)} violations"]
    lines += [f"  {violation}" for violation in violations[:_SHOWN_VIOLATIONS]]
    if len(violations) > _SHOWN_VIOLATIONS:
        lines.append(f"  ... and {len(violations) - _SHOWN_VIOLATIONS} more")
    return "\n".join(lines)


def _failed(text: str, status: int) -> int:
    print(f"initclient: error: {text}", file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *rest: Any, **keywords: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    # As an exception, so that a file half written is removed on the way out.
    raise SystemExit(128 + number)
