"""Where weights come from: the argument, the environment, or this process."""

from __future__ import annotations

import os

VARIABLE = "INITSERVE_TARGET"

LOCAL = "local"


def resolve_target(target: str | None) -> str | None:
    """The address of a server, or None for this process.

    Args:
        target: HOST:PORT or any gRPC name; None means the environment variable
            INITSERVE_TARGET, else this process; "local" or "" is this process whatever the
            variable says (and so may the variable be).

    Raises:
        ValueError: for a web address.
    """
    source = "target"
    if target is None:
        target, source = os.environ.get(VARIABLE, ""), VARIABLE
    target = target.strip()
    if target in ("", LOCAL):
        return None
    if target.startswith(("http://", "https://", "grpc://")):
        raise ValueError(
            f"{source} is {target!r}; give the address alone, as HOST:PORT, such as 127.0.0.1:50051"
        )
    return target


def refuse_backend(backend: str | None, target: str | None) -> None:
    """A backend computes in this process; with a server, the server has its own.

    Raises:
        ValueError: if both are given.
    """
    if backend is not None and target is not None:
        raise ValueError(
            f"backend is {backend!r}, but the values come from the server at {target}, which "
            "chose its own (initserver --backend); leave backend out, or give target='local' to "
            "compute in this process. The bits are the same"
        )
