"""What a server can be told, each value checked where it enters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from initcore.resolution import MAX_MATRIX_ELEMENTS

CHUNK_BYTES = 1 << 20
"""Bytes of data in one chunk: gRPC moves 1 to 2 MiB at a time fastest, and clients accept 4."""

MAX_REQUEST_BYTES = 64 << 20
"""Longest request: gRPC's default of 4 MiB would refuse plans of some ten thousand tensors."""

DEFAULT_LISTEN = "127.0.0.1:50051"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How a server runs.

    Attributes:
        listen: HOST:PORT; port 0 lets the system pick one, IPv6 hosts stand in brackets.
        backend: what draws the samples; None means INITSERVE_BACKEND, else "auto".
        threads: downloads served at the same time; more of them wait their turn.
        max_matrix_elements: largest matrix of schemes that need one whole (orthogonal).
        grace: seconds that running downloads are given when the server stops.

    Raises:
        ValueError: if a value cannot be right.
    """

    listen: str = DEFAULT_LISTEN
    backend: str | None = None
    threads: int = 16
    max_matrix_elements: int = MAX_MATRIX_ELEMENTS
    grace: float = 30.0

    def __post_init__(self) -> None:
        split_address(self.listen)
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")
        if self.max_matrix_elements < 1:
            raise ValueError(
                f"max_matrix_elements is {self.max_matrix_elements}; it must be at least 1"
            )
        if not (math.isfinite(self.grace) and self.grace >= 0):
            raise ValueError(f"grace is {self.grace}; it must be a number of seconds, 0 or more")


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of HOST:PORT.

    Raises:
        ValueError: if it does not have that form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not host
        or (":" in host and not bracketed)
        or not (port.isascii() and port.isdigit())
        or int(port) > 65535
    ):
        raise ValueError(
            f"the address {address!r} is not HOST:PORT with a port within 0..65535, such as "
            f"{DEFAULT_LISTEN} or [::]:50051"
        )
    return (host[1:-1] if bracketed else host), int(port)
