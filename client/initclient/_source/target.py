"""Where weights come from: the argument, the environment, or this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

VARIABLE = "INITSERVE_TARGET"

LOCAL = "local"

Target: TypeAlias = str | Sequence[str]
"""HOST:PORT or any gRPC name, several of them in a sequence or with commas, or "local"."""


def resolve_target(target: Target | None) -> tuple[str, ...] | None:
    """The addresses of servers, or None for this process.

    Args:
        target: HOST:PORT or any gRPC name such as dns:///NAME:PORT; several of them as a list
            or with commas. None means the environment variable INITSERVE_TARGET, else this
            process; "local" or "" is this process whatever the variable says (and so may
            the variable be).

    Raises:
        TypeError: for anything else.
        ValueError: for a web address, or "local" beside addresses.
    """
    source = "target"
    if target is None:
        target, source = os.environ.get(VARIABLE, ""), VARIABLE
    texts = [target] if isinstance(target, str) else list(target)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{source} is {target!r}; give a string, or a list of strings")
    found = [part.strip() for text in texts for part in text.split(",")]
    if not found:
        raise ValueError(f"{source} is an empty list; give addresses, or 'local'")
    if found in ([""], [LOCAL]):
        return None
    for address in found:
        if address in ("", LOCAL):
            what = "this process" if address else "nothing"
            raise ValueError(
                f"{source} is {target!r}, which names servers and {what}; give either addresses "
                f"or {LOCAL!r}"
            )
        if address.startswith(("http://", "https://", "grpc://")):
            raise ValueError(
                f"{source} is {address!r}; give the address alone, as HOST:PORT, such as "
                "127.0.0.1:50051"
            )
    # Twice the same address is no second replica.
    return tuple(dict.fromkeys(found))


def refuse_backend(backend: str | None, target: Sequence[str] | None) -> None:
    """A backend computes in this process; with a server, the server has its own.

    Raises:
        ValueError: if both are given.
    """
    if backend is not None and target is not None:
        raise ValueError(
            f"backend is {backend!r}, but the values come from the server at {', '.join(target)}, "
            "which chose its own (initserver --backend); leave backend out, or give "
            "target='local' (--target local) to compute in this process. The bits are the same"
        )
