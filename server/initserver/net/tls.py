"""TLS and mutual TLS, with certificates that can be rotated while the server runs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from initserver.config import ServerConfig
from initserver.net.certificates import validity
from initserver.net.watched_files import WatchedFiles, warn_if_others_can_read

_LOG = logging.getLogger("initserver")


@dataclass(frozen=True)
class Identity:
    """The certificate and key that the server uses, and the authorities that it trusts.

    Attributes:
        chain: the server's certificate and the intermediate ones, PEM.
        key: the private key, PEM. Never in a log: `repr` leaves it out.
        client_ca: authorities of clients, PEM; None if clients need no certificate.
        not_before: the first moment at which the certificate is valid.
        not_after: the last one.
    """

    chain: bytes
    key: bytes
    client_ca: bytes | None
    not_before: datetime
    not_after: datetime

    def __repr__(self) -> str:
        return f"Identity(not_after={self.not_after.isoformat()})"

    @property
    def is_valid(self) -> bool:
        """Whether the certificate is valid now."""
        return self.not_before <= datetime.now(UTC) <= self.not_after


class Tls:
    """The server's identity, which follows its files when they are rotated.

    Every new connection checks the files first; existing connections keep their identity.

    Args:
        config: has the paths; `tls_cert` is given.
        on_load: called with each identity that comes into use.

    Raises:
        ValueError: if the files hold no valid identity. Begins with the field's name.
    """

    def __init__(
        self, config: ServerConfig, on_load: Callable[[Identity], None] = lambda identity: None
    ) -> None:
        assert config.tls_cert
        assert config.tls_key
        self._cert, self._key, self._ca = config.tls_cert, config.tls_key, config.tls_client_ca
        self._on_load = on_load
        self._in_use: Identity | None = None
        paths = [self._cert, self._key, *([self._ca] if self._ca else [])]
        for name, path in zip(("tls_cert", "tls_key", "tls_client_ca"), paths, strict=False):
            _check_readable(name, path)
        self._identity = WatchedFiles("the certificate", paths, self._load, self._use)
        warn_if_others_can_read(self._key)
        first = self.identity
        if not first.is_valid:
            _LOG.error(
                "tls_cert: clients will refuse the certificate in %s, which is valid from %s "
                "to %s; replace the file, which needs no restart",
                self._cert,
                first.not_before.isoformat(),
                first.not_after.isoformat(),
            )

    @property
    def identity(self) -> Identity:
        """The identity as of now."""
        return self._identity.current()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a port; each handshake gets the identity of its moment."""
        first = self.identity
        shown = first

        def fetch() -> Any:
            # None tells gRPC that nothing has changed.
            nonlocal shown
            now = self.identity
            if now is shown:
                return None
            shown = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(first), fetch, require_client_authentication=self._ca is not None
        )

    def _load(self, contents: Sequence[bytes]) -> Identity:
        chain, key, *rest = contents
        self._check_pair(chain, key)
        if rest:
            self._check_authorities(rest[0])
        try:
            identity = Identity(chain, key, rest[0] if rest else None, *validity(chain))
        except ValueError as error:
            raise ValueError(f"tls_cert is {self._cert!r}; {error}") from None
        if self._in_use is not None and self._in_use.is_valid and not identity.is_valid:
            raise ValueError(
                f"tls_cert is {self._cert!r}; it is valid from {identity.not_before.isoformat()} "
                f"to {identity.not_after.isoformat()}, not now"
            )
        return identity

    def _use(self, identity: Identity) -> None:
        self._in_use = identity
        self._on_load(identity)

    def _check_pair(self, chain: bytes, key: bytes) -> None:
        """Checks both with OpenSSL, which reads a key from a file only.

        Raises:
            ValueError: if they do not belong together, or changed meanwhile.
        """
        pair = f"tls_cert is {self._cert!r} and tls_key {self._key!r}; "
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without a password of ours OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self._cert, self._key, password=lambda: "")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(pair + "the key is not this certificate's") from None
            raise ValueError(
                pair + "they must hold a certificate and its key in PEM form, the key not "
                f"encrypted (OpenSSL says {error.reason or 'nothing more'})"
            ) from None
        except ValueError:
            # The empty password was refused as too short.
            raise ValueError(pair + "the key must not be encrypted") from None
        if [Path(self._cert).read_bytes(), Path(self._key).read_bytes()] != [chain, key]:
            raise ValueError(pair + "they changed while they were read")

    def _check_authorities(self, pem: bytes) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(
                cadata=pem.decode("ascii")
            )
        except (ssl.SSLError, ValueError):
            raise ValueError(
                f"tls_client_ca is {self._ca!r}; it must hold certificates in PEM form"
            ) from None


def _configuration(identity: Identity) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.chain)], root_certificates=identity.client_ca
    )


def _check_readable(name: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{name} is {path!r}; it cannot be read: {error.strerror}") from None
