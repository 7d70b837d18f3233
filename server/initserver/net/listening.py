"""Binds ports: an error has the system's reason, and workers can share a port."""

from __future__ import annotations

import errno
import socket

from initserver.config import split_address


class ListenError(OSError):
    """The server cannot listen at an address."""


def check_free(listen: str) -> None:
    """Binds a plain socket for a moment: the system's error has a reason, gRPC's has none.

    Raises:
        ListenError: with the system's reason.
    """
    with _bound(listen, share=False) as probe:
        _listen(probe, listen)


def hold_port(listen: str) -> tuple[socket.socket, str]:
    """Reserves a port for several processes, which all listen there with SO_REUSEPORT.

    The socket that is returned never listens, so it gets no connections. While it is open, no
    program of another user can take the port, so the replacement of a crashed worker gets it.

    Returns:
        The socket, and HOST:PORT with the real port in place of 0.

    Raises:
        ListenError: with the system's reason; also if another program listens there.
    """
    check_free(listen)
    holder = _bound(listen, share=True)
    return holder, with_port(listen, holder.getsockname()[1])


def with_port(listen: str, port: int) -> str:
    """The address with another port."""
    return f"{listen.rpartition(':')[0]}:{port}"


def listening_socket(listen: str, *, share: bool = False) -> socket.socket:
    """A socket that listens.

    Args:
        listen: HOST:PORT.
        share: whether other processes listen there too, with SO_REUSEPORT.

    Raises:
        ListenError: with the system's reason.
    """
    listener = _bound(listen, share=share)
    try:
        _listen(listener, listen)
    except ListenError:
        listener.close()
        raise
    return listener


def _bound(listen: str, *, share: bool) -> socket.socket:
    host, port = split_address(listen)
    option = socket.SO_REUSEPORT if share else socket.SO_REUSEADDR
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
            if family == socket.AF_INET6:
                # [::] means IPv4 too, as it does for gRPC.
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise _error(listen, error) from error
    return bound


def _listen(bound: socket.socket, listen: str) -> None:
    try:
        # The system drops a connection for which its queue has no place, and the caller's system
        # tries again after a second, then after two: a probe would wait as long for one burst.
        bound.listen(socket.SOMAXCONN)
    except OSError as error:
        raise _error(listen, error) from error


def _error(listen: str, error: OSError) -> ListenError:
    text = f"cannot listen at {listen}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        text += "; another program listens there: stop it, or choose another port"
    return ListenError(text)
