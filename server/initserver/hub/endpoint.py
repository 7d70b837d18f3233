"""Answers the requests of clients of the Hugging Face Hub.

Everything that waits for a disk or for values runs in threads; a client that is slow to read or
to write costs no thread.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from initcore import CheckpointError

from initserver.config import Limits
from initserver.hub import forms
from initserver.hub import requests as req
from initserver.hub.answers import BYTES, HTML, Answer, HubError, error_answer, error_of
from initserver.hub.callers import caller_of, peer_of
from initserver.hub.downloads import Download
from initserver.hub.folders import NotReadyError
from initserver.hub.pages import Pages
from initserver.hub.revisions import RepoFile, Revision, Revisions, Weights
from initserver.hub.sending import send, send_pieces
from initserver.models import Blob, BlobChangedError, Models
from initserver.rpc import Call, InitService, Tokens, Watcher, trace_id
from initserver.values import Caller

T = TypeVar("T")

_LOG = logging.getLogger("initserver")

# Threads for answers that are at hand, for those that are not, and for pages.
_QUICK_THREADS, _SLOW_THREADS, _PAGE_THREADS = 8, 4, 2
# A download takes its next bytes while another one ends.
_SPARE_THREADS = 8

# Seconds that a request waits for a slot: clients give up on an answer after ten.
_SLOT_SECONDS = 7.0
_SLOT_PAUSE = 0.1

# Seconds for the body of a request.
_BODY_SECONDS = 10.0

_DRAINING = "this server is stopping and takes no new requests; ask another replica"
_HOST = re.compile(r"[A-Za-z0-9._\[\]:-]{1,255}")


class Endpoint:
    """Answers requests.

    Args:
        service: computes weights.
        models: the models.
        limits: the limits of the server.
        tokens: the tokens that are accepted; None requires none.
        watchers: are notified of every request.
        pages: makes the pages for people.
    """

    def __init__(
        self,
        service: InitService,
        models: Models,
        limits: Limits,
        tokens: Tokens | None,
        watchers: Sequence[Watcher],
        pages: Pages,
    ) -> None:
        self._service = service
        self._models = models
        self._tokens = tokens
        self._watchers = watchers
        self._pages = pages
        self._revisions = Revisions(models, limits)
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "initserver-hub")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "initserver-hub-slow")
        self._for_pages = ThreadPoolExecutor(_PAGE_THREADS, "initserver-hub-page")
        self._streams = ThreadPoolExecutor(
            limits.max_streams + _SPARE_THREADS, "initserver-hub-stream"
        )
        self._is_draining = False

    def refuse(self) -> None:
        """Refuses new requests from now on."""
        self._is_draining = True

    def close(self) -> None:
        """Frees the threads, after the last request."""
        self._revisions.close()
        self._pages.close()
        for pool in (self._quick, self._slow, self._for_pages, self._streams):
            pool.shutdown(wait=True, cancel_futures=True)

    async def answer(self, request: Any) -> Any:
        """Answers one request of aiohttp."""
        target, headers = req.parse_target(request.raw_path), request.headers
        traced = ("traceparent", "tracestate")
        call = Call(
            method=f"hub/{target.kind}",
            metadata=[(name, headers[name]) for name in traced if name in headers],
            user_agent=headers.get("User-Agent", "")[:200],
            trace_id=trace_id(headers.get("traceparent", "")),
            peer=peer_of(request),
            code=grpc.StatusCode.CANCELLED,
            reason="the client disconnected, or the server's grace was over",
        )
        for watcher in self._watchers:
            watcher.started(call)
        try:
            try:
                self._check(request, target)
                call.caller = caller_of(request, self._tokens)
                if target.kind == req.RESOLVE:
                    return await self._file(request, target, call)
                answer = await self._short(request, target)
            except ConnectionError:
                raise
            except Exception as error:
                found = _error(error)
                call.reason, answer = found.message, error_answer(found)
            return await send(request, answer, call)
        finally:
            call.seconds = time.monotonic() - call.began
            for watcher in self._watchers:
                watcher.ended(call)

    def _check(self, request: Any, target: req.Target) -> None:
        if self._is_draining:
            # Clients that download retry after this status, and after 503 they give up.
            status = 429 if target.kind == req.RESOLVE else 503
            raise HubError(status, _DRAINING, headers={"Retry-After": "1", "Connection": "close"})
        allowed = ("POST",) if target.kind == req.PATHS else ("GET", "HEAD")
        if request.method not in allowed:
            names = ", ".join(allowed)
            raise HubError(405, f"this resource answers {names}", headers={"Allow": names})

    async def _short(self, request: Any, target: req.Target) -> Answer:
        """The answer of everything but files."""
        kind = target.kind
        if kind in (req.HOME, req.LIST):
            return await _in(self._quick, self._list, kind, request.raw_path.partition("?")[2])
        if kind == req.UNKNOWN:
            raise HubError(404, "there is no such resource; / lists the models")
        body = await _body(request) if kind == req.PATHS else b""
        revision = await self._revision(target)
        if kind == req.PAGE:
            host = request.host if _HOST.fullmatch(request.host) else "localhost"
            seen = f"{request.scheme}://{host}"
            page = await _in(self._for_pages, self._pages.model, revision, seen)
            return Answer(body=page, content_type=HTML)
        if kind == req.PLOT:
            page = await _in(self._for_pages, self._pages.plot, revision)
            return Answer(body=page, content_type=HTML)
        if kind == req.TREE:
            form: Any = forms.tree(revision, target.path)
        elif kind == req.PATHS:
            form = forms.paths_info(revision, body, request.headers.get("Content-Type", ""))
        else:
            form = forms.refs(revision) if kind == req.REFS else forms.model_info(revision)
        return Answer.json(form, forms.commit_of(revision))

    def _list(self, kind: str, query: str) -> Answer:
        models = self._models.all()
        if kind == req.HOME:
            return Answer(body=self._pages.home(models, query), content_type=HTML)
        return Answer.json(forms.model_list(models, query))

    async def _revision(self, target: req.Target) -> Revision:
        def find(wait: bool) -> Revision:
            return self._revisions.get(target.model, target.revision, wait=wait)

        try:
            return await _in(self._quick, find, False)
        except NotReadyError:
            return await _in(self._slow, find, True)

    async def _file(self, request: Any, target: req.Target, call: Call) -> Any:
        """Sends a file, or a range of it, or its headers."""
        revision = await self._revision(target)
        call.plan_digest = revision.digest
        file = revision.file(target.path)
        headers, asked = _headers(revision, file), request.headers
        content = file.content
        if isinstance(content, Blob):
            content = await _in(self._quick, self._revisions.blob, revision, file)
        if not req.has_etag(asked.get("If-Match", "*"), file.etag, strong=True):
            raise HubError(412, f"{file.path} has another ETag", headers=headers)
        if req.has_etag(asked.get("If-None-Match"), file.etag):
            return await send(request, Answer(304, content_type="", headers=headers), call)
        span = None
        if request.method == "GET" and asked.get("If-Range", headers["ETag"]) == headers["ETag"]:
            span = req.byte_range(asked.get("Range"), file.size)
        begin, end = span or (0, file.size)
        if span:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
            call.read_offset, call.read_limit = begin, end - begin
        headers["Content-Length"] = str(end - begin)
        status = 206 if span else 200
        if request.method == "HEAD" or begin == end:
            return await send(request, Answer(status, content_type=BYTES, headers=headers), call)
        if isinstance(content, bytes):
            answer = Answer(status, content[begin:end], BYTES, headers)
            return await send(request, answer, call)
        if isinstance(content, Blob):
            read = content.read(begin, end)
            # Before the headers: a file that has changed since is an error, and no short body.
            first = await _in(self._quick, next, read, None)
            pieces = self._of_blob(first, read)
            return await send_pieces(request, status, headers, pieces, call)
        return await self._computed(request, status, headers, content, begin, end, call)

    async def _of_blob(self, piece: bytes | None, read: Iterator[bytes]) -> AsyncIterator[bytes]:
        while piece is not None:
            yield piece
            piece = await _in(self._quick, next, read, None)

    async def _computed(
        self,
        request: Any,
        status: int,
        headers: dict[str, str],
        weights: Weights,
        begin: int,
        end: int,
        call: Call,
    ) -> Any:
        loop, transport = asyncio.get_running_loop(), request.transport

        def cut_off(reason: str) -> None:
            call.reason = reason
            if transport is not None:
                loop.call_soon_threadsafe(transport.abort)

        caller = Caller(cut_off)
        download = Download(self._service, weights, begin, end, caller)

        async def pieces() -> AsyncIterator[bytes | memoryview]:
            while (data := await _in(self._streams, download.take)) is not None:
                yield data
                del data

        try:
            await self._open(download)
            return await send_pieces(request, status, headers, pieces(), call)
        finally:
            caller.cancel()
            # Not waited for: a thread may still be in `take`, which returns soon.
            with suppress(RuntimeError):
                self._streams.submit(download.close)

    async def _open(self, download: Download) -> None:
        """Opens a download, when there is a slot for it."""
        patience = time.monotonic() + _SLOT_SECONDS
        while True:
            try:
                return await _in(self._streams, download.open)
            except Exception as error:
                found = error_of(error)
                if found is None or found.status != 429 or time.monotonic() > patience:
                    raise
            await asyncio.sleep(_SLOT_PAUSE)


async def _in(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


def _headers(revision: Revision, file: RepoFile) -> dict[str, str]:
    return {
        "ETag": f'"{file.etag}"',
        "X-Repo-Commit": revision.commit,
        "X-Linked-Size": str(file.size),
        "X-Linked-ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
    }


async def _body(request: Any) -> bytes:
    """The body of a request, if it comes soon and is not too large."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        text = f"the body is compressed ({encoding[:20]}); send it without Content-Encoding"
        raise HubError(415, text, headers={"Connection": "close"})
    found = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while data := await request.content.readany():
                found += data
                if len(found) > forms.MOST_BODY_BYTES:
                    text = f"the body may have {forms.MOST_BODY_BYTES} bytes"
                    raise HubError(413, text, headers={"Connection": "close"})
    except TimeoutError:
        text = f"the body did not arrive within {_BODY_SECONDS:g} s"
        raise HubError(408, text, headers={"Connection": "close"}) from None
    return bytes(found)


def _error(error: Exception) -> HubError:
    found = error_of(error)
    if found is not None:
        return found
    if isinstance(error, BlobChangedError):
        # The next look at the folder finds what it holds now.
        return HubError(503, "the files of the model are changing", headers={"Retry-After": "2"})
    if isinstance(error, CheckpointError):
        return HubError(409, str(error))
    reference = secrets.token_hex(4)
    _LOG.error("internal error %s", reference, exc_info=error)
    return HubError(500, f"internal error; the server's log has the details under {reference}")
