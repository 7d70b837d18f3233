"""Proxies: the HTTP proxy that gRPC would take for an address, by the rules of gRPC.

gRPC reads `grpc_proxy`, `https_proxy` and `http_proxy` in this order, in lower case alone, and the
exceptions in `no_grpc_proxy`, else `no_proxy`. It also proxies addresses of this machine, which
this client never does.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")
_UNPROXIED = ("unix:", "unix-abstract:", "vsock:")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        address: its HOST:PORT, without a user's name and password.
        variable: the environment variable that names it.
    """

    address: str
    variable: str

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.variable})"


def proxy_of(address: str) -> Proxy | None:
    """The proxy of calls to an address; None if they go directly.

    Values that gRPC cannot use, such as socks5://..., name no proxy.
    """
    if is_loopback(address) or address.startswith(_UNPROXIED):
        return None
    # As in gRPC: the first variable that is set counts, also if it is empty.
    variable = next((name for name in _VARIABLES if name in os.environ), "")
    try:
        parts = urlsplit(os.environ.get(variable, ""))
        if parts.scheme != "http" or not parts.hostname:
            return None
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return None
    exceptions = next((os.environ[name] for name in _EXCEPTIONS if name in os.environ), "")
    if _is_exception(host_of(address), exceptions):
        return None
    return Proxy(place, variable)


def route(address: str) -> str:
    """An address for people, with the proxy on the way to it, if there is one."""
    proxy = proxy_of(address)
    return address if proxy is None else f"{address} through {proxy}"


def is_loopback(address: str) -> bool:
    """Whether an address is certain to be on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = host_of(address).lower()
    found = _ip(host)
    if found is None:
        return host in ("localhost", "localhost.")
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def host_of(address: str) -> str:
    """The host of an address, without scheme, port and brackets."""
    for scheme in _SCHEMES:
        if address.startswith(scheme):
            address = unquote(address.removeprefix(scheme))
            break
    host, colon, _ = address.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        # Without a port; an IPv6 address has colons of its own.
        host = address
    return host.strip("[]")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_exception(host: str, exceptions: str) -> bool:
    """Whether a list of names, ends of names and networks has a host."""
    address = _ip(host)
    for entry in map(str.strip, exceptions.split(",")):
        if not entry:
            continue
        if host.lower().endswith(entry.lower()):
            return True
        try:
            if "/" in entry and address in ipaddress.ip_network(entry, strict=False):
                return True
        except (TypeError, ValueError):
            continue
    return False
