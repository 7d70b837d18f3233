"""Who sends a request: its token, its certificate, its address."""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from typing import Any

from initserver.hub.answers import HubError
from initserver.rpc import Tokens

# Browsers ask for a password, which is the token.
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="initserve", Bearer realm="initserve"'}


def caller_of(request: Any, tokens: Tokens | None) -> str:
    """The name of a request's token, else of its certificate, "" for none.

    Args:
        request: a request of aiohttp.
        tokens: the tokens that are accepted; None requires none.

    Raises:
        HubError: if there is no token that is accepted.
    """
    if tokens is None:
        return _certificate_name(request)
    token = _token(request.headers.get("Authorization", ""))
    if token is None:
        text = "this server requires a token: send Authorization: Bearer TOKEN (HF_TOKEN)"
        raise HubError(401, text, headers=_CHALLENGE)
    name = tokens.caller(token)
    if name is None:
        # huggingface_hub knows these words.
        raise HubError(401, "Invalid credentials in Authorization header", headers=_CHALLENGE)
    return name or _certificate_name(request)


def peer_of(request: Any) -> str:
    """The client's address, as gRPC writes it."""
    found = request.transport.get_extra_info("peername") if request.transport else None
    if not found:
        return ""
    host, port = found[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _token(header: str) -> bytes | None:
    """The token of an Authorization header: Bearer, or the password of Basic."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip().encode(errors="replace")
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2] or None
    return None


def _certificate_name(request: Any) -> str:
    found = request.transport.get_extra_info("peercert") if request.transport else None
    for part in (found or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
