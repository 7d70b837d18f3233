"""Sends answers with aiohttp: short ones, and bodies piece by piece."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from initserver.hub.answers import BYTES, HTML, Answer, code_of
from initserver.models import BlobChangedError
from initserver.rpc import Call

_LOG = logging.getLogger("initserver")


async def send(request: Any, answer: Answer, call: Call) -> Any:
    """Sends a short answer, without its body for HEAD, and notes how the call ended."""
    headers = dict(answer.headers)
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    if answer.content_type == HTML:
        headers |= {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if answer.status != 304:
        headers.setdefault("Content-Length", str(len(answer.body)))
    response = await _begin(request, answer.status, headers)
    if answer.body and request.method != "HEAD":
        await _write(response, answer.body, call)
    await response.write_eof()
    call.code = code_of(answer.status)
    if answer.status < 400:
        call.reason = ""
    return response


async def send_pieces(
    request: Any,
    status: int,
    headers: Mapping[str, str],
    pieces: AsyncIterator[bytes | memoryview],
    call: Call,
) -> Any:
    """Sends a body in pieces.

    Where it cannot be sent whole, the connection is closed, so that the client notices.

    Args:
        request: a request of aiohttp.
        status: the status.
        headers: the headers, with the length of the body.
        pieces: the body.
        call: notes how the call ended.
    """
    response = await _begin(request, status, headers)
    left = int(headers["Content-Length"])
    try:
        async for piece in pieces:
            await _write(response, piece, call)
            left -= len(piece)
            # The piece is not kept while the next one is made.
            del piece
    except ConnectionError:
        # The client has gone.
        return response
    except Exception as error:
        call.code, call.reason = grpc.StatusCode.UNKNOWN, f"the body ended early: {error}"
        if not isinstance(error, BlobChangedError):
            _LOG.error("a body ended early", exc_info=error)
    if left:
        if request.transport is not None:
            # An end, not a reset: huggingface_hub resumes after the one and not after the other.
            request.transport.close()
        return response
    await response.write_eof()
    call.code, call.reason = grpc.StatusCode.OK, ""
    return response


async def _begin(request: Any, status: int, headers: Mapping[str, str]) -> Any:
    from aiohttp import web

    shown = {"Content-Type": BYTES, **headers}
    closes = shown.pop("Connection", "") == "close"
    response = web.StreamResponse(status=status, headers=shown)
    if closes:
        response.force_close()
    await response.prepare(request)
    return response


async def _write(response: Any, data: bytes | memoryview, call: Call) -> None:
    await response.write(data)
    call.bytes_sent += len(data)
