"""The environment: the files that variables name, and values with which gRPC would fail."""

from __future__ import annotations

import os
import ssl
from typing import TypedDict

from initclient._exceptions import AuthenticationError

_FILES = ("INITSERVE_CA", "INITSERVE_CERT", "INITSERVE_KEY", "INITSERVE_TOKEN_FILE")

_POLL = "GRPC_POLL_STRATEGY"
_POLL_STRATEGIES = {"all", "epoll1", "poll"}
_CIPHERS = "GRPC_SSL_CIPHER_SUITES"


class Files(TypedDict):
    """Arguments of `Credentials` that are files."""

    ca: str | None
    cert: str | None
    key: str | None
    token_file: str | None


def check_grpc_variables() -> None:
    """Refuses values for which gRPC would abort the process.

    Raises:
        ValueError: for an engine in GRPC_POLL_STRATEGY that gRPC does not have.
    """
    value = os.environ.get(_POLL)
    if value is None:
        return
    engines = set(value.split(","))
    if "none" in engines or not engines & _POLL_STRATEGIES:
        raise ValueError(
            f"{_POLL} is {value!r}, with which gRPC would end this process; unset it, or give one "
            f"of {', '.join(sorted(_POLL_STRATEGIES))}"
        )


def check_cipher_suites() -> None:
    """Refuses cipher suites of which gRPC knows none: some of its releases wait in silence.

    Raises:
        AuthenticationError: for names in GRPC_SSL_CIPHER_SUITES that OpenSSL does not know.
    """
    value = os.environ.get(_CIPHERS)
    # OpenSSL knows no groups in brackets, BoringSSL, which gRPC has, does.
    if value is None or "[" in value:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(value)
    except ssl.SSLError:
        raise AuthenticationError(
            f"no TLS handshake succeeds with {_CIPHERS}, which is {value!r} and names no cipher "
            "suite: unset it, or name suites as OpenSSL does, such as ECDHE-RSA-AES128-GCM-SHA256"
        ) from None


def files_of_environment() -> Files:
    """The files of credentials that variables name, as arguments of `Credentials`.

    Raises:
        ValueError: for a certificate without its key, or a key without its certificate.
    """
    ca, cert, key, token = (os.environ.get(variable) or None for variable in _FILES)
    if (cert is None) != (key is None):
        given, missing = ("KEY", "CERT") if cert is None else ("CERT", "KEY")
        raise ValueError(
            f"INITSERVE_{given} is set and INITSERVE_{missing} is not; a client needs both or none"
        )
    return {"ca": ca, "cert": cert, "key": key, "token_file": token}


def naming(text: str) -> str:
    """A sentence about a file of credentials, with the variables that name the file."""
    found = [
        variable
        for variable in _FILES
        if (value := os.environ.get(variable)) and value in text and variable not in text
    ]
    if not found:
        return text
    return f"{text} ({' and '.join(found)} {'names' if len(found) == 1 else 'name'} it)"
