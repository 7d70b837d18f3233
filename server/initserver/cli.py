"""The command `initserver`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from initcore import (
    STREAM_VERSION,
    BackendError,
    CheckpointError,
    MissingPackageError,
    PlanError,
    __version__,
)
from initcore.show import fitted
from initcore.show.help import Help, unknown_argument

from initserver.config import (
    ServerConfig,
    Settings,
    UsageError,
    add_flags,
    check_environment,
    drop_inherited,
    is_loopback,
    settings,
    split_address,
)
from initserver.net import ListenError
from initserver.observe import set_up_logs
from initserver.process import Server, leave, raise_limit, run_until_signalled

_LOG = logging.getLogger("initserver")

_DESCRIPTION = """\
Serve initial weights. A client sends a plan, and gets any byte range of its safetensors file.

The server computes values when a client asks for them, and stores none. All servers give the
same bytes for the same plan, whatever their backend, so you can start as many as you need.

Every flag has an environment variable, which stands in brackets below. A flag wins over its
variable. Numbers of bytes may have a unit: 1048576, 64KiB, 256MiB, 2GiB.
"""

_EXAMPLES = """\
examples:
  initserver                                     on this machine only, port 50051
  initserver --listen 127.0.0.1:0                on a free port, printed at the start
  initserver --backend native --threads 32       compiled CPU code, 32 chunks at once

  initserver --listen 0.0.0.0:50051 --tls-cert tls.crt --tls-key tls.key \\
      --token-file tokens                        for other machines: encrypted, with tokens
  initserver --listen [::]:50051 --insecure --workers 4 --metrics-listen [::]:9090 \\
      --log-format json                          in a mesh that encrypts; 4 processes, with metrics

  initserver --models models --hub-listen 127.0.0.1:8080
                                                 model folders for clients of the Hugging Face
                                                 Hub: HF_ENDPOINT=http://127.0.0.1:8080

then, from a client:
  initclient fetch plan.yaml --out init.safetensors --target 127.0.0.1:50051

stopping: after the first SIGTERM or Ctrl-C, health is NOT_SERVING, the server refuses new
calls, and running downloads may finish within --grace seconds. A second signal ends the
process at once.

monitoring: grpc.health.v1, which needs no token, and reflection are on the same port.
/metrics, /livez and /readyz are on --metrics-listen.

exit status: 0 stopped by a signal; 1 the server cannot run here (a package or a GPU is missing);
2 a flag, a variable or the address is invalid; 130 interrupted before it served.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors suggest the flag that is meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses what it does not know."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_argument(self, unknown[0]))
        return found, unknown


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="initserver",
        usage="initserver [--listen HOST:PORT] [flags]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=Help,
        # An abbreviation that is unique today is ambiguous after the next release.
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.add_argument(
        "--version",
        action="version",
        version=f"initserver {__version__} (stream v{STREAM_VERSION})",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        chosen = settings(options, os.environ)
        warnings = check_environment(os.environ, bool(chosen.server.tls_cert))
    except UsageError as error:
        return _failed(str(error), 2)
    set_up_logs(chosen.command.log_format, chosen.command.log_level)
    for warning in warnings:
        _LOG.warning("%s", warning)
    drop_inherited(os.environ)
    raise_limit()
    try:
        (_serve_here if chosen.command.workers == 1 else _serve_in_workers)(chosen)
    except (ListenError, PlanError, CheckpointError, ValueError) as error:
        return _failed(chosen.explain(error), 2)
    except (MissingPackageError, BackendError) as error:
        return _failed(str(error), 1)
    except _Failed as failed:
        return _failed(chosen.explain(failed), failed.status)
    _LOG.info("initserver: stopped")
    leave(0)
    return 0


class _Failed(Exception):  # noqa: N818 - carries the exit status
    """The workers cannot start."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _serve_here(chosen: Settings) -> None:
    server = Server(chosen.server)
    run_until_signalled(
        server,
        lambda: _announce(
            chosen.server,
            (server.address, server.hub_address, server.metrics_address),
            server.backend.name,
            1,
        ),
    )


def _serve_in_workers(chosen: Settings) -> None:
    # Imported late: most servers have no workers.
    from initserver.process.workers import WorkerFailed, Workers

    workers = Workers(chosen.server, chosen.command)
    try:
        workers.run(
            lambda: _announce(
                chosen.server,
                (workers.address, workers.hub_address, workers.metrics_address),
                workers.backend,
                chosen.command.workers,
            )
        )
    except WorkerFailed as failed:
        raise _Failed(str(failed), failed.status) from failed


def _announce(
    config: ServerConfig, addresses: tuple[str, str, str], backend: str, workers: int
) -> None:
    address, hub_address, metrics_address = addresses
    scheme = "https" if config.tls_cert else "http"
    parts = [
        f"initserver {__version__} listening at {address}",
        f"backend {backend}",
        f"stream v{STREAM_VERSION}",
    ]
    if workers > 1:
        parts.append(f"{workers} workers")
    if config.tls_cert:
        parts.append("mutual TLS" if config.tls_client_ca else "TLS")
    if config.token_file:
        parts.append("tokens required")
    if hub_address:
        parts.append(f"Hub endpoint at {scheme}://{hub_address}")
    if metrics_address:
        parts.append(f"metrics at http://{metrics_address}/metrics")
    fields = {
        "version": __version__,
        "address": address,
        "backend": backend,
        "workers": workers,
        "tls": bool(config.tls_cert),
        "client_certificates": bool(config.tls_client_ca),
        "tokens": bool(config.token_file),
        "hub_address": hub_address,
        "metrics_address": metrics_address,
    }
    _LOG.info("%s", ", ".join(parts), extra={"fields": fields})
    hosts = [split_address(one)[0] for one in (address, hub_address) if one]
    if not config.tls_cert and not all(map(is_loopback, hosts)):
        readable = "traffic and tokens are" if config.token_file else "traffic is"
        _LOG.warning("other machines can connect, and %s not encrypted", readable)


def _failed(message: str, status: int) -> int:
    text = fitted(f"initserver: error: {message}", sys.stderr)
    print(text, file=sys.stderr, flush=True)
    return status
