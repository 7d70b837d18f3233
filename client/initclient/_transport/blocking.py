"""The blocking gRPC shell: calls, threads and sleep; it never interprets the bytes.

Imported only for calls to a server, since importing gRPC takes longer than a small plan.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from initcore import Fingerprint, Plan, layout
from initcore.file import Progress
from initserve.v1 import service_pb2

from initclient._exceptions import AuthenticationError, IntegrityError, LimitError
from initclient._files import Sink
from initclient._machine import here
from initclient._plan import Region
from initclient._source import Connections, Request, Service, note_use, proxy_of
from initclient._transport.channel import (
    DESCRIBE,
    FETCH,
    GET_SERVER_INFO,
    HEALTH,
    HEALTH_STATUSES,
    Tls,
    options_for,
    tls_of,
)
from initclient._transport.download import Range, Stream, Transfer
from initclient._transport.failover import Attempt, Attempts, Call
from initclient._transport.faults import Fault, Verdict, silent
from initclient._transport.fingerprints import FingerprintQueries, check_fingerprints
from initclient._transport.receiver import Check, read_description
from initclient._transport.status import translate
from initclient._transport.watchdog import Watch

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)
_Metadata = tuple[tuple[str, str], ...]


def open_channel(address: str, tls: Tls | None) -> grpc.Channel:
    """A new connection."""
    note_use()
    credentials = None if tls is None else tls.credentials()
    channel: grpc.Channel = here().channel(address, options_for(address), credentials)
    return channel


@contextmanager
def _used(
    channel: grpc.Channel, address: str, version: Hashable, connections: Connections | None
) -> Iterator[grpc.Channel]:
    """A channel for one call; afterwards keeps it for the next call, or closes it.

    It closes the channel after a failure, so that no later call uses a failed connection, and if
    `connections` is None.
    """
    try:
        yield channel
    except BaseException:
        channel.close()
        raise
    if connections is None:
        channel.close()
    else:
        connections.keep(address, version, channel)


def download(
    request: Request,
    sink: Sink,
    progress: Progress | None = None,
    missing: Sequence[Range] | None = None,
) -> tuple[str, ...]:
    """Receives the file of a request, or the ranges that are missing of it.

    Returns:
        The servers' warnings about the plan.

    Raises:
        InitserveError: if no server delivers it; the sink may hold a part of it then.
        PlanError: if a server refuses the plan.
    """
    service = _service(request)
    transfer = Transfer(request, sink, here().now(), progress, missing)
    try:
        with Watch(service.retry.idle_timeout) as watch:
            if len(transfer.streams) == 1:
                _receive(transfer.streams[0], service, watch)
            else:
                _receive_all(transfer, service, watch)
        return transfer.warnings
    finally:
        transfer.close()


def _receive_all(transfer: Transfer, service: Service, watch: Watch) -> None:
    """Runs each stream in a thread; the first failure, or Ctrl-C here, ends all streams."""
    works = [partial(_receive, stream, service, watch) for stream in transfer.streams]
    here().run_all(works, "initclient-stream", watch.stop)


def _receive(stream: Stream, service: Service, watch: Watch) -> None:
    while (attempt := stream.next(here().now())) is not None:
        if not watch.sleep(attempt.pause):
            return
        fault = _fetch_once(stream, attempt, service, watch)
        if watch.stopped:
            return
        if fault:
            stream.failed(fault, here().now())


def _fetch_once(stream: Stream, attempt: Attempt, service: Service, watch: Watch) -> Fault | None:
    address, source = attempt.address, attempt.source

    def fetch(channel: grpc.Channel, metadata: _Metadata) -> None:
        method = channel.unary_stream(
            FETCH, request_serializer=service_pb2.FetchRequest.SerializeToString
        )
        call = method(
            stream.request(attempt),
            timeout=stream.remaining(here().now()),
            metadata=metadata,
        )
        try:
            with watch.over(call) as watched:
                try:
                    for raw in call:
                        with watched.paused():
                            stream.feed(raw, here().now())
                except grpc.RpcError as error:
                    if watched.was_silent:
                        raise silent(source, service.retry.idle_timeout) from error
                    raise
            stream.finish()
        finally:
            call.cancel()

    request, arrived = stream.transfer.request, stream.transfer.arrived
    receiver = stream.receiver
    return _attempted(fetch, address, service, request, arrived, lambda: receiver.messages)[1]


def fingerprints(
    request: Request, regions: Sequence[Region], progress: Progress | None = None
) -> list[Fingerprint]:
    """The fingerprints of regions of a plan's tensors, in their order.

    Raises:
        InitserveError: if no server delivers all fingerprints.
    """
    service, queries = _service(request), FingerprintQueries(request.layout, regions, progress)
    started = here().now()
    while (part := queries.next()) is not None:
        try:
            left = service.after(here().now() - started)
            queries.answered(describe(Request(part, left), fingerprints=True))
        except LimitError as error:
            queries.refused(error)
    return queries.found


def describe(
    request: Request, fingerprints: bool = False, check: Check | None = None
) -> service_pb2.DescribeResponse:
    """A server's description of the plan, with fingerprints if requested.

    Args:
        request: the plan, and the service.
        fingerprints: whether the server computes fingerprints.
        check: a further check of an answer; another server is asked if it fails.

    Raises:
        InitserveError: if no server answers, or all resolve the plan to another file.
        PlanError: if a server refuses the plan.
    """
    service = _service(request)
    message = service_pb2.DescribeRequest(plan=request.message, fingerprints=fingerprints)
    call = Call.to(service.addresses, service.retry, service.timeout, here().now())
    attempts = Attempts(call)
    while True:
        attempt = attempts.next(here().now())
        here().sleep(attempt.pause)

        def describe_once(
            channel: grpc.Channel, metadata: _Metadata, source: str = attempt.source
        ) -> service_pb2.DescribeResponse:
            method = channel.unary_unary(
                DESCRIBE, request_serializer=service_pb2.DescribeRequest.SerializeToString
            )
            raw = method(message, timeout=attempts.limit(here().now()), metadata=metadata)
            response = read_description(raw, request.layout, source, check)
            if fingerprints:
                check_fingerprints(response, source)
            return response

        response, fault = _attempted(describe_once, attempt.address, service, request)
        if fault is None:
            assert response is not None
            return response
        attempts.failed(fault, here().now())


def ask(
    request: Request, method: str, message: Message, kind: type[_M], read: Callable[[_M, str], _T]
) -> _T:
    """The answer to a call that has one, from the first server that gives a right one.

    Args:
        request: names the service.
        method: the path of the method.
        message: what is sent.
        kind: the message of the answer.
        read: takes the answer and the server's address; raises IntegrityError for a wrong one.

    Raises:
        InitserveError: if no server gives it.
    """
    service = _service(request)
    attempts = Attempts(Call.to(service.addresses, service.retry, service.timeout, here().now()))
    while True:
        attempt = attempts.next(here().now())
        here().sleep(attempt.pause)

        def ask_once(
            channel: grpc.Channel, metadata: _Metadata, source: str = attempt.source
        ) -> tuple[_T]:
            call = channel.unary_unary(method, request_serializer=type(message).SerializeToString)
            raw = call(message, timeout=attempts.limit(here().now()), metadata=metadata)
            try:
                return (read(kind.FromString(raw or b""), source),)
            except DecodeError as error:
                text = f"{source} sent bytes that are not a message of this service"
                raise Fault(IntegrityError(text), Verdict.AGAIN) from error
            except IntegrityError as error:
                raise Fault(error, Verdict.DIFFERS) from error

        answer, fault = _attempted(ask_once, attempt.address, service, request)
        if answer is not None:
            return answer[0]
        assert fault is not None
        attempts.failed(fault, here().now())


def server_info(address: str, service: Service) -> tuple[service_pb2.GetServerInfoResponse, str]:
    """Asks one server about itself, once.

    Args:
        address: the server.
        service: credentials, and the seconds in which it must answer.

    Returns:
        Its answer, and its health: "serving", "not serving" or "unknown".

    Raises:
        InitserveError: if it does not answer.
    """

    def ask(
        channel: grpc.Channel, metadata: _Metadata
    ) -> tuple[service_pb2.GetServerInfoResponse, str]:
        method = channel.unary_unary(
            GET_SERVER_INFO,
            request_serializer=service_pb2.GetServerInfoRequest.SerializeToString,
            response_deserializer=service_pb2.GetServerInfoResponse.FromString,
        )
        request = service_pb2.GetServerInfoRequest()
        info = method(request, timeout=service.timeout, metadata=metadata)
        try:
            health = channel.unary_unary(HEALTH)(b"", timeout=service.timeout, metadata=metadata)
        except grpc.RpcError:
            health = b""
        return info, HEALTH_STATUSES.get(health, "unknown")

    answer, fault = _attempted(ask, address, service, Request(layout(Plan({})), service))
    if fault is not None:
        raise fault.error
    assert answer is not None
    return answer


def _attempted(
    make: Callable[[grpc.Channel, _Metadata], _T],
    address: str,
    service: Service,
    request: Request,
    arrived: Callable[[], str] = str,
    messages: Callable[[], int] = int,
) -> tuple[_T | None, Fault | None]:
    """Makes a call; returns its result or its fault.

    Args:
        make: makes the call.
        address: the server.
        service: the service it belongs to.
        request: the request that the call is for.
        arrived: how far a download came, for errors.
        messages: how many messages the stream has had so far.
    """
    credentials, connections = service.credentials, service.connections
    proxy = proxy_of(address)

    def fault_of(error: grpc.RpcError) -> Fault:
        return translate(error, address, request, arrived(), credentials.encrypts, proxy)

    try:
        # Every call reads the files, which may be rotated; new contents open a new connection.
        metadata, tls = credentials.metadata(), tls_of(credentials)
        version = tls, proxy
        if connections is not None and (idle := connections.take(address, version)) is not None:
            note_use()
            before = messages()
            try:
                with _used(idle, address, version, connections) as channel:
                    return make(channel, metadata), None
            except grpc.RpcError as error:
                # The server stopped or restarted since the last call. A stale connection is no
                # failed attempt: the call runs again on a new one, if this one brought nothing
                # and no server asked for a pause.
                fault = fault_of(error)
                is_stale = error.code() is grpc.StatusCode.UNAVAILABLE and fault.pushback is None
                if not is_stale or messages() > before:
                    return None, fault
        with _used(open_channel(address, tls), address, version, connections) as channel:
            return make(channel, metadata), None
    except Fault as fault:
        return None, fault
    except AuthenticationError as error:
        return None, Fault(credentials.explained(error), Verdict.FINAL)
    except grpc.RpcError as error:
        return None, fault_of(error)


def _service(request: Request) -> Service:
    assert request.service is not None
    return request.service
