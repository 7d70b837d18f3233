"""The blocking gRPC shell: calls, threads and sleep, and nothing that knows what bytes mean.

Imported only when a server is asked, since importing gRPC costs more than a small plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import grpc
from initcore import Fingerprint, Layout
from initcore.file import Progress
from initcore.wire import to_proto
from initserve.v1 import service_pb2

from initclient._exceptions import AuthenticationError, LimitError
from initclient._files import Sink
from initclient._source import Credentials, Service
from initclient._transport.channel import DESCRIBE, FETCH, OPTIONS, tls_credentials
from initclient._transport.download import Range, Stream, Transfer
from initclient._transport.failover import Attempt, Attempts, Call
from initclient._transport.faults import Fault, Verdict, silent
from initclient._transport.fingerprints import Questions, check_fingerprints
from initclient._transport.receiver import check_description
from initclient._transport.status import translate
from initclient._transport.watchdog import Watch

_T = TypeVar("_T")


def open_channel(address: str, credentials: Credentials) -> grpc.Channel:
    """A connection of its own, so that forked processes never share one."""
    tls = tls_credentials(credentials)
    if tls is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, tls, options=OPTIONS)


def download(
    layout: Layout,
    service: Service,
    sink: Sink,
    progress: Progress | None = None,
    missing: Sequence[Range] | None = None,
) -> tuple[str, ...]:
    """Receives the file of a layout, or those ranges that are missing of it.

    Returns:
        What the servers say about the plan, for people.

    Raises:
        InitserveError: if it cannot be had; the sink may hold a part of it by then.
        PlanError: if a server refuses the plan.
    """
    transfer = Transfer(layout, sink, service, time.monotonic(), progress, missing)
    with Watch(service.retry.idle_timeout) as watch:
        if len(transfer.streams) == 1:
            _receive(transfer.streams[0], service, watch)
        else:
            _receive_all(transfer, service, watch)
    return transfer.warnings


def _receive_all(transfer: Transfer, service: Service, watch: Watch) -> None:
    """Each stream in a thread; the first failure, or Ctrl-C here, ends them all."""
    with ThreadPoolExecutor(len(transfer.streams), "initclient-stream") as pool:
        try:
            running = [pool.submit(_receive, s, service, watch) for s in transfer.streams]
            for future in wait(running, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            watch.stop()


def _receive(stream: Stream, service: Service, watch: Watch) -> None:
    while (attempt := stream.next(time.monotonic())) is not None:
        if not watch.sleep(attempt.pause):
            return
        fault = _fetch_once(stream, attempt, service, watch)
        if watch.stopped:
            return
        if fault:
            stream.failed(fault, time.monotonic())


def _fetch_once(stream: Stream, attempt: Attempt, service: Service, watch: Watch) -> Fault | None:
    address = attempt.address

    def fetch(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        method = channel.unary_stream(
            FETCH, request_serializer=service_pb2.FetchRequest.SerializeToString
        )
        call = method(
            stream.request(attempt),
            timeout=stream.remaining(time.monotonic()),
            metadata=metadata,
        )
        try:
            with watch.over(call) as watched:
                try:
                    for raw in call:
                        with watched.paused():
                            stream.feed(raw)
                except grpc.RpcError as error:
                    if watched.was_silent:
                        raise silent(address, service.retry.idle_timeout) from error
                    raise
            stream.finish()
        finally:
            call.cancel()

    arrived = stream.transfer.arrived
    return _attempted(fetch, address, service, stream.receiver.layout, arrived)[1]


def fingerprints(questions: Questions, service: Service) -> list[Fingerprint]:
    """The fingerprints that some questions are about.

    Raises:
        InitserveError: if no server gives them all.
    """
    started = time.monotonic()
    while (asked := questions.next()) is not None:
        try:
            left = service.after(time.monotonic() - started)
            questions.answered(describe(asked, left, fingerprints=True))
        except LimitError as error:
            questions.refused(error)
    return questions.found


def describe(
    layout: Layout, service: Service, fingerprints: bool = False
) -> service_pb2.DescribeResponse:
    """What a server resolves the plan to, with fingerprints if they are asked for.

    Raises:
        InitserveError: if none answers, or they resolve it to another file.
        PlanError: if a server refuses the plan.
    """
    plan = to_proto(layout.plan)
    request = service_pb2.DescribeRequest(plan=plan, fingerprints=fingerprints)
    call = Call.to(service.addresses, service.retry, service.timeout, time.monotonic())
    attempts = Attempts(call)
    while True:
        attempt = attempts.next(time.monotonic())
        time.sleep(attempt.pause)
        address = attempt.address

        def ask(
            channel: grpc.Channel, metadata: tuple[tuple[str, str], ...], source: str = address
        ) -> service_pb2.DescribeResponse:
            method = channel.unary_unary(
                DESCRIBE,
                request_serializer=service_pb2.DescribeRequest.SerializeToString,
                response_deserializer=service_pb2.DescribeResponse.FromString,
            )
            response = method(request, timeout=attempts.limit(time.monotonic()), metadata=metadata)
            check_description(response, layout, source)
            if fingerprints:
                check_fingerprints(response, source)
            assert isinstance(response, service_pb2.DescribeResponse)
            return response

        response, fault = _attempted(ask, address, service, layout)
        if fault is None:
            assert response is not None
            return response
        attempts.failed(fault, time.monotonic())


def _attempted(
    make: Callable[[grpc.Channel, tuple[tuple[str, str], ...]], _T],
    address: str,
    service: Service,
    layout: Layout,
    arrived: Callable[[], str] = str,
) -> tuple[_T | None, Fault | None]:
    """Makes a call on a connection of its own: its result, or what went wrong."""
    try:
        # Read for every call, since files may have been rotated.
        metadata = service.credentials.metadata()
        with open_channel(address, service.credentials) as channel:
            return make(channel, metadata), None
    except Fault as fault:
        return None, fault
    except AuthenticationError as error:
        return None, Fault(error, Verdict.FINAL)
    except grpc.RpcError as error:
        encrypted = service.credentials.encrypts
        return None, translate(error, address, layout.plan, arrived(), encrypted)
