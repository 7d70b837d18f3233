"""Variables of libraries that would end a server without a word, or make it useless.

gRPC aborts the process where it does not know the poll strategy, and refuses every TLS
handshake where it knows none of the cipher suites. What other variables do is said by the
libraries themselves, or by the rooms that load them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, MutableMapping

from initserver.config.flags import UsageError

_POLL_STRATEGIES = {"all", "epoll1", "poll", "none"}
_VERBOSITIES = ("debug", "info", "error", "none")

# Set for another program that started this one, they would send this server's metrics there.
_INHERITED = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def check_environment(environment: Mapping[str, str], tls: bool) -> list[str]:
    """Checks the variables of gRPC, before it reads them.

    Args:
        environment: the variables.
        tls: whether the server has TLS.

    Returns:
        Warnings, one sentence each.

    Raises:
        UsageError: if the server could not serve.
    """
    # gRPC has read its variables when it was loaded, so it is too late to take an empty one out.
    strategy = environment.get("GRPC_POLL_STRATEGY", "all")
    if _POLL_STRATEGIES.isdisjoint(strategy.split(",")):
        raise UsageError(
            f"GRPC_POLL_STRATEGY is {strategy!r}; gRPC knows epoll1 and poll: unset the variable"
        )
    suites = environment.get("GRPC_SSL_CIPHER_SUITES")
    # OpenSSL knows no groups in brackets, BoringSSL does.
    if tls and suites is not None and "[" not in suites:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(suites)
        except ssl.SSLError:
            raise UsageError(
                f"GRPC_SSL_CIPHER_SUITES is {suites!r}; it names no cipher suite, so every "
                "handshake would fail: unset the variable, or name suites as OpenSSL does, such as "
                "ECDHE-RSA-AES128-GCM-SHA256"
            ) from None
    verbosity = environment.get("GRPC_VERBOSITY", "")
    if verbosity and verbosity.lower() not in _VERBOSITIES:
        return [f"GRPC_VERBOSITY is {verbosity!r}; gRPC knows {', '.join(_VERBOSITIES)}"]
    return []


def drop_inherited(environment: MutableMapping[str, str]) -> None:
    """Removes variables that are meant for the program that started this one.

    For the process of the command `initserver`, before it starts workers.
    """
    for name in _INHERITED:
        environment.pop(name, None)
