"""The certificates and keys of a TLS connection, read from their files."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from initclient._exceptions import AuthenticationError
from initclient._source.credentials import Credentials
from initclient._source.rotation import PathLike, last_good


def authorities_of(credentials: Credentials) -> bytes | None:
    """The certificates of the authorities, PEM; None means those of gRPC.

    Raises:
        AuthenticationError: if the file cannot be read, or is no PEM.
    """
    if credentials.ca is not None:
        return _checked(credentials.ca)
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        try:
            return _checked(named)
        except AuthenticationError as error:
            raise AuthenticationError(f"{error} (SSL_CERT_FILE names it)") from error
    system = ssl.get_default_verify_paths().openssl_cafile
    # If the system has none, gRPC has its own.
    return last_good(["CA"], [system], itemgetter(0)) if os.path.isfile(system) else None


def _checked(path: PathLike) -> bytes:
    def load(contents: Sequence[bytes]) -> bytes:
        _check_certificates(path, "CA", contents[0])
        return contents[0]

    return last_good(["CA"], [path], load)


def pair_of(credentials: Credentials) -> tuple[bytes | None, bytes | None]:
    """The client's certificate chain and its private key, PEM; None without one.

    Raises:
        AuthenticationError: if a file cannot be read, is no PEM, or they do not belong together.
    """
    cert, key = credentials.cert, credentials.key
    if cert is None or key is None:
        return None, None

    def load(contents: Sequence[bytes]) -> tuple[bytes, bytes]:
        chain, secret = contents
        _check_certificates(cert, "certificate", chain)
        if b"PRIVATE KEY-----" not in secret:
            raise _not_pem(key, "key", "no private key")
        _check_pair(cert, key, contents)
        return chain, secret

    return last_good(["certificate", "key"], [cert, key], load)


def _check_certificates(path: PathLike, kind: str, pem: bytes) -> None:
    """Refuses a file without certificates: some releases of gRPC wait and say nothing instead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Comments between certificates may be in any encoding.
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise _not_pem(path, kind, "no certificate") from error


def _check_pair(cert: PathLike, key: PathLike, contents: Sequence[bytes]) -> None:
    """Refuses a key of another certificate: a rotation replaces one file after the other."""
    pair = f"the key file {os.fspath(key)} and the certificate file {os.fspath(cert)}"
    try:
        # OpenSSL reads a key from a file only, and would ask for a password at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=lambda: "")
        again = [Path(cert).read_bytes(), Path(key).read_bytes()]
    except (OSError, ValueError) as error:
        mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        why = "do not belong together" if mismatch else "cannot be used together"
        raise AuthenticationError(f"{pair} {why}; the key must not be encrypted") from error
    if again != list(contents):
        raise AuthenticationError(f"{pair} changed while they were read")


def _not_pem(path: PathLike, kind: str, found: str) -> AuthenticationError:
    return AuthenticationError(f"the {kind} file {os.fspath(path)} holds {found} in PEM form")
