"""File descriptors: as many as the system gives, and how many of them connections may take."""

from __future__ import annotations

import resource
from contextlib import suppress

_RESERVED = 256
"""Descriptors kept for everything but calls: the HTTP port, files that are read again,
checkpoints, gRPC's own."""

_MOST_HUB = 1024


def raise_limit() -> None:
    """Raises the soft limit of open files to the hard one. For processes that run only a server.

    The soft limit is 1,024 on most systems, for the sake of programs that use select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A container may lower the hard limit while the process runs.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(others: int = 0) -> int:
    """How many connections calls may come over: the limit of open files, less a reserve.

    Args:
        others: connections of other ports, for which places are left too.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31 - 1
    return min(max(soft - _RESERVED, soft // 2) - others, 2**31 - 1)


def most_hub_connections() -> int:
    """How many connections the Hub's port may have: an eighth of the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_HUB if soft == resource.RLIM_INFINITY else min(max(soft // 8, 8), _MOST_HUB)
