"""Credentials: the client's certificate and token, and the authorities that it trusts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from initclient._exceptions import AuthenticationError
from initclient._source.environment import files_of_environment, naming
from initclient._source.proxies import is_loopback
from initclient._source.rotation import PathLike, last_good

# The name before a token in a server's token file; a token has no colon (RFC 6750).
_NAME = re.compile(r"^[A-Za-z0-9._-]{1,64}:(?=[A-Za-z0-9._~+/-]+=*$)")


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Certificates and tokens for calls to a server.

    Every call reads the files again, also each call that continues a broken download, so that
    rotated files take effect. While a file is missing, unreadable or half-written, the last good
    contents that this process has read stay in use.

    Attributes:
        tls: encrypt, and check the server's certificate. `ca` or `cert` turns it on too.
        ca: PEM file of the authorities that may have signed the server's certificate; None
            means those of the system.
        cert: PEM file of this client's certificate chain, if the server requires one.
        key: PEM file of its private key.
        token: a bearer token.
        token_file: file with one token, alone or in the form of a server's token file: one line
            of TOKEN or NAME:TOKEN, besides empty lines and lines that begin with #.
        plaintext_token: send the token to another machine without encryption, where something
            else, such as a service mesh, encrypts.

    Raises:
        ValueError: for arguments that contradict each other.
    """

    tls: bool = False
    ca: PathLike | None = None
    cert: PathLike | None = None
    key: PathLike | None = None
    # Never shown: not in repr and not in any message.
    token: str | None = field(default=None, repr=False)
    token_file: PathLike | None = None
    plaintext_token: bool = False

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            given, missing = ("key", "cert") if self.cert is None else ("cert", "key")
            raise ValueError(f"{given} is given and {missing} is not; a client needs both or none")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both given; give one of them")
        if self.token is not None:
            _check_token(self.token, "token")

    @classmethod
    def from_environment(cls) -> Credentials:
        """The credentials of INITSERVE_TLS, _CA, _CERT, _KEY and _TOKEN_FILE.

        Raises:
            ValueError: for variables that contradict each other.
        """
        tls = os.environ.get("INITSERVE_TLS", "").lower()
        if tls not in ("", "0", "1", "false", "true", "no", "yes"):
            raise ValueError(f"INITSERVE_TLS is {tls!r}; give 1 or 0")
        found = cls(tls=tls in ("1", "true", "yes"), **files_of_environment())
        object.__setattr__(found, "_of_environment", True)
        return found

    def explained(self, error: AuthenticationError) -> AuthenticationError:
        """An error about one of the files, with the variable that names the file."""
        if getattr(self, "_of_environment", False):
            error.args = (naming(str(error)),)
        return error

    @property
    def encrypts(self) -> bool:
        """Whether connections use TLS."""
        return bool(self.tls or self.ca or self.cert)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call.

        Raises:
            AuthenticationError: if the token file cannot be read, or does not hold one token.
        """
        token = self.token if self.token_file is None else _read_token(self.token_file)
        return () if token is None else (("authorization", f"Bearer {token}"),)

    def check(self, addresses: Sequence[str]) -> None:
        """Refuses to send a token unencrypted to another machine.

        Raises:
            ValueError: if a call would do so.
        """
        if self.encrypts or self.plaintext_token or not (self.token or self.token_file):
            return
        for address in addresses:
            if not is_loopback(address):
                raise ValueError(
                    f"a token for {address} would be sent unencrypted; give tls=True or ca=FILE, "
                    "or plaintext_token=True if something else encrypts the connection"
                )


def _read_token(path: PathLike) -> str:
    """The one token in a file.

    Raises:
        AuthenticationError: if there is none, or more than one.
    """
    return last_good(["token"], [path], lambda contents: _parse_token(path, contents[0]))


def _parse_token(path: PathLike, content: bytes) -> str:
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if len(tokens) > 1:
        raise AuthenticationError(
            f"the token file {os.fspath(path)} holds {len(tokens)} tokens, which only a server's "
            "may; give this client a file with its own token (token_file=, --token-file or "
            "INITSERVE_TOKEN_FILE)"
        )
    token = _NAME.sub("", tokens[0], count=1) if tokens else ""
    try:
        _check_token(token, f"the token in {os.fspath(path)}")
    except ValueError as error:
        raise AuthenticationError(str(error)) from None
    return token


def _check_token(token: str, what: str) -> None:
    # gRPC would refuse other characters with a message that shows the token.
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError(f"{what} is empty or has characters other than visible ASCII")
