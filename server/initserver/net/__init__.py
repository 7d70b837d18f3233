"""Sockets, TLS, certificates that rotate, and the HTTP port of metrics and probes.

Calls of gRPC and their tokens are in `initserver.rpc`, the metrics themselves in
`initserver.observe`.
"""

from initserver.net.http import HttpPort
from initserver.net.listening import (
    ListenError,
    check_free,
    hold_port,
    listening_socket,
    with_port,
)
from initserver.net.tls import Identity, Tls
from initserver.net.tls_context import TlsContexts
from initserver.net.watched_files import WatchedFiles, warn_if_others_can_read

__all__ = [
    "HttpPort",
    "Identity",
    "ListenError",
    "Tls",
    "TlsContexts",
    "WatchedFiles",
    "check_free",
    "hold_port",
    "listening_socket",
    "warn_if_others_can_read",
    "with_port",
]
