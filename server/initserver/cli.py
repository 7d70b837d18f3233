"""The command `initserver`."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys
from collections.abc import Sequence

from initcore import STREAM_VERSION, BackendError, MissingPackageError, PlanError, __version__
from initcore.backends import BACKENDS
from initcore.resolution import MAX_MATRIX_ELEMENTS

from initserver._config import DEFAULT_LISTEN, ServerConfig, split_address
from initserver._run import leave, run_until_signalled
from initserver._server import ListenError, Server

_DESCRIPTION = """\
Serve initial weights: a plan goes in, any byte range of its safetensors file comes out.

Values are computed when they are asked for and nothing is stored, so every server gives
the same bytes for the same plan, whatever its backend; start as many as you like.
"""

_EXAMPLES = """\
examples:
  initserver                                     on this machine only, port 50051
  initserver --listen 127.0.0.1:0                on a free port, printed at the start
  initserver --listen 0.0.0.0:50051              for other machines too (not encrypted)
  initserver --backend numba --threads 32        compiled CPU code, 32 downloads at once

then, from a client:
  initclient fetch plan.yaml --out init.safetensors --target 127.0.0.1:50051

SIGTERM or Ctrl-C stops it: new calls are refused and running downloads may finish within
--grace seconds. A second signal ends it at once. It answers grpc.health.v1 and reflection.

exit status: 0 stopped as asked, 1 cannot run here, 2 wrong arguments or address.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="initserver",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=DEFAULT_LISTEN,
        help="address to listen at; port 0 picks a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what computes the values: always the same bits, at different speed. auto takes "
        "a GPU if one answers, else Numba if it is installed, else NumPy "
        "(default: $INITSERVE_BACKEND, else auto)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        default=ServerConfig.threads,
        help="downloads served at the same time; more wait their turn (default: %(default)s)",
    )
    parser.add_argument(
        "--max-matrix-elements",
        type=int,
        metavar="N",
        default=MAX_MATRIX_ELEMENTS,
        help="largest matrix of the orthogonal schemes, which need one whole in memory; larger "
        "ones are refused (default: %(default)s, 16384 x 16384)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        default=ServerConfig.grace,
        help="time that running downloads have to finish on SIGTERM (default: %(default)g)",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"initserver {__version__} (stream v{STREAM_VERSION})",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, format="initserver: %(levelname)s: %(message)s", level=logging.WARNING
    )
    try:
        config = ServerConfig(
            listen=options.listen,
            backend=options.backend,
            threads=options.threads,
            max_matrix_elements=options.max_matrix_elements,
            grace=options.grace,
        )
        server = Server(config)
        run_until_signalled(server, lambda: _say(_start_line(server)))
    except (ListenError, PlanError, ValueError) as error:
        return _failed(error, 2)
    except (MissingPackageError, BackendError) as error:
        return _failed(error, 1)
    _say("initserver: stopped")
    leave(0)
    return 0


def _failed(error: Exception, status: int) -> int:
    _say(f"initserver: error: {error}")
    return status


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _start_line(server: Server) -> str:
    line = (
        f"initserver {__version__} listening at {server.address}, "
        f"backend {server.backend.name}, stream v{STREAM_VERSION}"
    )
    if not _is_loopback(split_address(server.address)[0]):
        line += "\ninitserver: warning: other machines can connect, and traffic is not encrypted"
    return line


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
