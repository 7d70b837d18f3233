"""Addresses of servers: from the argument or the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import IPv6Address

VARIABLE = "INITSERVE_TARGET"

LOCAL = "local"

# The one of `initserver` without --listen. gRPC would take 443.
DEFAULT_PORT = 50051

# HOST:PORT, also after dns:///. Other names of gRPC, such as unix:PATH, are gRPC's to check.
_WITH_PORT = re.compile(r"(?:dns:///)?(?P<host>\[.*\]|[^/:]+):(?P<port>[^/:]*)")
_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")


def target_of_environment() -> str:
    """The target that INITSERVE_TARGET names; "" without it, which is this process."""
    return os.environ.get(VARIABLE, "")


def is_local(target: object) -> bool:
    """Whether a target is this process: "local", "", or a sequence of one of these alone."""
    return _texts(target) in ([""], [LOCAL])


def addresses_of(target: str | Sequence[str], source: str = "target") -> tuple[str, ...]:
    """The addresses that a target names, each once.

    Args:
        target: HOST:PORT, HOST alone for port 50051, or any gRPC name such as dns:///NAME:PORT;
            several of them in a sequence or with commas.
        source: the argument or the variable that named them, for errors.

    Raises:
        TypeError: for anything that is not text.
        ValueError: for no address, a web address or a path, a port that is not a number, or
            "local" beside addresses.
    """
    found = _texts(target)
    if found is None:
        raise TypeError(f"{source} is {target!r}; give a string, or a list of strings")
    if not found:
        raise ValueError(f"{source} is an empty list; give addresses, or 'local'")
    for address in found:
        if address in ("", LOCAL):
            kind = "this process" if address else "nothing"
            beside = f"servers and {kind}" if len(found) > 1 else kind
            raise ValueError(
                f"{source} is {target!r}, which names {beside}; give either addresses or {LOCAL!r}"
            )
        if address.startswith(("http://", "https://", "grpc://")) or _has_path(address):
            raise ValueError(
                f"{source} is {address!r}; give the address alone, as HOST:PORT, such as "
                "127.0.0.1:50051"
            )
        if not _has_good_port(address):
            raise ValueError(
                f"{source} is {address!r}; the port must be a number within 1..65535, as in "
                f"127.0.0.1:{DEFAULT_PORT}"
            )
    # The same address twice is one server.
    return tuple(dict.fromkeys(map(_with_port, found)))


def _has_path(address: str) -> bool:
    """Whether HOST or HOST:PORT ends in a path, as in a web address; gRPC would look it up."""
    scheme, colon, _ = address.partition(":")
    if "://" in address or (colon and scheme in _SCHEMES):
        return scheme == "dns" and address.endswith("/")
    return "/" in address


def _has_good_port(address: str) -> bool:
    """Whether the port of HOST:PORT can be one; gRPC would look for it until its time is up."""
    found = _WITH_PORT.fullmatch(address)
    if found is None or found["host"] in _SCHEMES:
        return True
    port = found["port"]
    return port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535


def _with_port(address: str) -> str:
    """A host name or IP address with the default port, everything else as it is."""
    if address.startswith("["):
        return f"{address}:{DEFAULT_PORT}" if address.endswith("]") else address
    if "/" in address:
        return address
    if address.count(":") > 1:
        try:
            return f"[{IPv6Address(address)}]:{DEFAULT_PORT}"
        except ValueError:
            return address
    return address if ":" in address else f"{address}:{DEFAULT_PORT}"


def _texts(target: object) -> list[str] | None:
    """The parts of a target between commas; None for anything that is not text."""
    texts = [target] if isinstance(target, str) else target
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        return None
    return [part.strip() for text in texts for part in text.split(",")]
