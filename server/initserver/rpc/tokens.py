"""Bearer tokens, from a file that can be rotated while the server runs."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import grpc

from initserver.net import WatchedFiles, warn_if_others_can_read
from initserver.rpc.gate import PROBES, refusing

CALLER: ContextVar[str] = ContextVar("initserver_caller", default="")
"""The name of the token of the call that is being intercepted, "" for none."""

# RFC 6750's alphabet of a token; a colon is not in it, so a name can stand before one.
_LINE = re.compile(rb"(?:([A-Za-z0-9._-]{1,64}):)?([A-Za-z0-9._~+/-]+=*)")

_MISSING = (
    "this server requires a token and the call has none: send the metadata "
    "'authorization: Bearer TOKEN'"
)
_UNKNOWN = "this server does not know the call's token: it is wrong, or no longer valid"


class Tokens:
    """The tokens that are accepted, read again when their file changes.

    Args:
        path: a file with one token a line, as TOKEN or NAME:TOKEN. Empty lines and lines that
            begin with # are ignored.

    Raises:
        ValueError: if the file cannot be used. Begins with "token_file".
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._known = WatchedFiles("the file of tokens", [path], self._load)
        except OSError as error:
            raise ValueError(
                f"token_file is {path!r}; it cannot be read: {error.strerror}"
            ) from None
        warn_if_others_can_read(path)

    def caller(self, token: bytes) -> str | None:
        """The name of a token, "" if it has none; None if it is not known.

        Compares with every token in constant time, so that the time tells nothing about them.
        """
        found = None
        for name, known in self._known.current():
            if hmac.compare_digest(known, token):
                found = name
        return found

    def _load(self, contents: Sequence[bytes]) -> Sequence[tuple[str, bytes]]:
        found = []
        for number, line in enumerate(contents[0].splitlines(), 1):
            text = line.strip()
            if not text or text.startswith(b"#"):
                continue
            match = _LINE.fullmatch(text)
            if not match:
                raise ValueError(
                    f"token_file is {self._path!r}; line {number} must be TOKEN or NAME:TOKEN, "
                    "with letters, digits and -._~+/ in the token"
                )
            found.append(((match[1] or b"").decode(), match[2]))
        if not found:
            raise ValueError(
                f"token_file is {self._path!r}; it holds no token, so every call would fail"
            )
        return found


class TokenCheck(grpc.ServerInterceptor):  # type: ignore[misc]
    """Accepts calls with a known token, unary or streaming, and all health checks."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """The method's handler, or one that answers UNAUTHENTICATED."""
        CALLER.set("")
        if handler_call_details.method.startswith(PROBES):
            return continuation(handler_call_details)
        token = _token(handler_call_details.invocation_metadata)
        if token is None:
            return refusing(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", _MISSING)
        name = self._tokens.caller(token)
        if name is None:
            return refusing(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_UNKNOWN", _UNKNOWN)
        CALLER.set(name)
        return continuation(handler_call_details)


def _token(metadata: Any) -> bytes | None:
    for key, value in metadata or ():
        if key == "authorization":
            scheme, _, token = str(value).partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return token.strip().encode()
    return None
