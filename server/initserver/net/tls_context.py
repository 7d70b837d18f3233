"""TLS for servers other than gRPC's: a context of the `ssl` module that follows rotated files."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from initserver.net.tls import Identity, Tls


class TlsContexts:
    """Contexts of the server's identity, one for each that comes into use.

    Sessions belong to their context: a client resumes none from before a rotation, so a removed
    authority of clients admits nobody.

    Args:
        tls: the identity.
        protocols: names of the protocols that are offered (ALPN).
    """

    def __init__(self, tls: Tls, protocols: list[str]) -> None:
        self._tls = tls
        self._protocols = protocols
        self._identity = tls.identity
        self._context = _context(self._identity, protocols)

    def current(self) -> ssl.SSLContext:
        """The context of the identity as of now, for one handshake."""
        now = self._tls.identity
        if now is not self._identity:
            self._identity, self._context = now, _context(now, self._protocols)
        return self._context


def _context(identity: Identity, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    # The module reads keys from files only, and the files of the configuration may have changed.
    with _as_file(identity.chain + b"\n" + identity.key) as path:
        context.load_cert_chain(path)
    if identity.client_ca is not None:
        context.load_verify_locations(cadata=identity.client_ca.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A file that holds a secret for a moment; in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("initserver", os.MFD_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(data)
        named.flush()
        yield named.name
