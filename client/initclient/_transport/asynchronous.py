"""The asyncio gRPC shell: the calls of `blocking`, as tasks on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio
from initcore import Fingerprint
from initcore.file import Progress
from initserve.v1 import service_pb2

from initclient._exceptions import AuthenticationError, LimitError
from initclient._files import Sink
from initclient._machine import here
from initclient._plan import Region
from initclient._source import Request, Service, note_use, proxy_of
from initclient._transport.channel import DESCRIBE, FETCH, Tls, options_for, tls_of
from initclient._transport.download import Range, Stream, Transfer
from initclient._transport.failover import Attempt, Attempts, Call
from initclient._transport.faults import Fault, Verdict, silent
from initclient._transport.fingerprints import FingerprintQueries, check_fingerprints
from initclient._transport.receiver import Check, read_description
from initclient._transport.status import translate

_T = TypeVar("_T")
_Metadata = tuple[tuple[str, str], ...]


@asynccontextmanager
async def open_channel(address: str, tls: Tls | None) -> AsyncIterator[Any]:
    """A connection for one call: a kept one would belong to an event loop that may have ended."""
    note_use()
    credentials = None if tls is None else tls.credentials()
    async with here().asyncio_channel(address, options_for(address), credentials) as channel:
        yield channel


async def download(
    request: Request,
    sink: Sink,
    progress: Progress | None = None,
    missing: Sequence[Range] | None = None,
) -> tuple[str, ...]:
    """Receives the file of a request; see `blocking.download`."""
    service = _service(request)
    transfer = Transfer(request, sink, _now(), progress, missing)
    tasks = [asyncio.create_task(_receive(stream, service)) for stream in transfer.streams]
    try:
        await asyncio.gather(*tasks)
        return transfer.warnings
    finally:
        for task in tasks:
            task.cancel()
        # No task may write to the sink after this function has returned.
        await asyncio.gather(*tasks, return_exceptions=True)
        transfer.close()


async def _receive(stream: Stream, service: Service) -> None:
    while (attempt := stream.next(_now())) is not None:
        await asyncio.sleep(attempt.pause)
        fault = await _fetch_once(stream, attempt, service)
        if fault:
            stream.failed(fault, _now())


async def _fetch_once(stream: Stream, attempt: Attempt, service: Service) -> Fault | None:
    idle = service.retry.idle_timeout

    async def fetch(channel: Any, metadata: _Metadata) -> None:
        method = channel.unary_stream(
            FETCH, request_serializer=service_pb2.FetchRequest.SerializeToString
        )
        call = method(stream.request(attempt), timeout=stream.remaining(_now()), metadata=metadata)
        try:
            while True:
                try:
                    raw = await _read(call, idle)
                except TimeoutError:
                    raise silent(attempt.source, idle) from None
                if raw is grpc.aio.EOF:
                    break
                stream.feed(raw, _now())
            stream.finish()
        finally:
            call.cancel()

    request, arrived = stream.transfer.request, stream.transfer.arrived
    return (await _attempted(fetch, attempt.address, service, request, arrived))[1]


async def _read(call: Any, idle: float | None) -> Any:
    """The next message of a call, or EOF; cancels the call if the wait ends early.

    Raises:
        TimeoutError: after `idle` seconds without one.
    """
    reading = asyncio.ensure_future(call.read())
    try:
        async with asyncio.timeout(idle):
            return await asyncio.shield(reading)
    except (asyncio.CancelledError, TimeoutError):
        # gRPC frees a message when its read has ended. A read that is cancelled never does, and
        # the message stays in memory; one whose call is cancelled ends at once.
        call.cancel()
        await asyncio.wait([reading])
        raise


async def fingerprints(
    request: Request, regions: Sequence[Region], progress: Progress | None = None
) -> list[Fingerprint]:
    """The fingerprints of regions of a plan's tensors; see `blocking.fingerprints`."""
    service, queries = _service(request), FingerprintQueries(request.layout, regions, progress)
    started = _now()
    while (part := queries.next()) is not None:
        try:
            left = service.after(_now() - started)
            queries.answered(await describe(Request(part, left), fingerprints=True))
        except LimitError as error:
            queries.refused(error)
    return queries.found


async def describe(
    request: Request, fingerprints: bool = False, check: Check | None = None
) -> service_pb2.DescribeResponse:
    """A server's description of the plan; see `blocking.describe`."""
    service = _service(request)
    message = service_pb2.DescribeRequest(plan=request.message, fingerprints=fingerprints)
    call = Call.to(service.addresses, service.retry, service.timeout, _now())
    attempts = Attempts(call)

    async def describe_once(channel: Any, metadata: _Metadata) -> service_pb2.DescribeResponse:
        method = channel.unary_unary(
            DESCRIBE, request_serializer=service_pb2.DescribeRequest.SerializeToString
        )
        raw = await method(message, timeout=attempts.limit(_now()), metadata=metadata)
        response = read_description(raw, request.layout, attempt.source, check)
        if fingerprints:
            check_fingerprints(response, attempt.source)
        return response

    while True:
        attempt = attempts.next(_now())
        await asyncio.sleep(attempt.pause)
        response, fault = await _attempted(describe_once, attempt.address, service, request)
        if fault is None:
            assert response is not None
            return response
        attempts.failed(fault, _now())


async def _attempted(
    make: Callable[[Any, _Metadata], Awaitable[_T]],
    address: str,
    service: Service,
    request: Request,
    arrived: Callable[[], str] = str,
) -> tuple[_T | None, Fault | None]:
    """Makes a call on a new connection; returns its result or its fault."""
    credentials = service.credentials
    try:
        metadata, tls = credentials.metadata(), tls_of(credentials)
        async with open_channel(address, tls) as channel:
            return await make(channel, metadata), None
    except Fault as fault:
        return None, fault
    except AuthenticationError as error:
        return None, Fault(credentials.explained(error), Verdict.FINAL)
    except grpc.RpcError as error:
        proxy = proxy_of(address)
        return None, translate(error, address, request, arrived(), credentials.encrypts, proxy)


def _now() -> float:
    # The clock of the pauses and limits of this loop.
    return asyncio.get_running_loop().time()


def _service(request: Request) -> Service:
    assert request.service is not None
    return request.service
