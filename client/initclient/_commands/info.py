"""`initclient info`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from initcore.show import size_text

from initclient._commands._options import RAW, BadInput, add_service, service_arguments
from initclient._commands.terminal import show
from initclient._inspect import server_reports
from initclient._source import Service, source_of

# Seconds for one answer, where --timeout does not say.
_TIMEOUT = 10.0


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "info",
        help="show version, backend, health and limits of servers",
        description="Show version, backend, health and limits of servers. The command asks each\n"
        "address once.",
        epilog="examples:\n  initclient info init.ml.svc:50051\n"
        "  initclient info a:50051,b:50051 --ca ca.pem --json\n\n"
        "exit status: 0 all servers are serving; 1 a server does not answer, or is not serving;\n"
        "2 wrong arguments.",
        formatter_class=RAW,
    )
    command.add_argument(
        "address",
        metavar="TARGET",
        nargs="?",
        help="the server, as HOST:PORT, for example init.ml.svc:50051, or several with commas "
        "(default: $INITSERVE_TARGET)",
    )
    command.add_argument("--json", action="store_true", help="print a JSON list of the servers")
    add_service(command, retries=False)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.address is not None:
        options.target = [options.address, *(options.target or ())]
    options.timeout = options.timeout or _TIMEOUT
    service = source_of(**service_arguments(options))
    if not isinstance(service, Service):
        raise BadInput("no server is named; give TARGET, for example init.ml.svc:50051")
    reports = server_reports(service)
    if options.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        for report in reports:
            show(report)
            for name, value in report.limits.items():
                print(f"  {name:{_WIDTH}} {_shown(name, value)}")
    if not all(report.health == "serving" for report in reports):
        raise SystemExit(1)


_WIDTH = len("max_fingerprint_bytes")


def _shown(name: str, value: int) -> str:
    if not value:
        return "not said"
    return size_text(value) if name.endswith("_bytes") else f"{value:,}"
