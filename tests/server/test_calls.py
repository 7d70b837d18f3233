"""A call is told of once, at its end, in ways that no client can bring about at will."""

from __future__ import annotations

import contextlib
import gc
from typing import Any, NamedTuple

import grpc
from initserver.rpc.calls import Call, CallWatch, InFlight, trace_id


class Details(NamedTuple):
    method: str = "/initserve.v1.InitService/Describe"
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class Listener:
    def __init__(self) -> None:
        self.ended_calls: list[tuple[str, str]] = []

    def started(self, call: Call) -> None:
        pass

    def ended(self, call: Call) -> None:
        self.ended_calls.append((call.method, call.code.name))


def answer(request: Any, context: Any) -> bytes:
    return b""


def test_a_call_that_is_cancelled_before_it_has_a_thread_has_ended_too() -> None:
    listener, in_flight = Listener(), InFlight()
    watch = CallWatch([in_flight, listener])
    handler = watch.intercept_service(
        lambda details: grpc.unary_unary_rpc_method_handler(answer), Details()
    )
    assert not in_flight.wait_until_none(0)
    gc.disable()
    try:
        # gRPC drops the handler, and nothing else tells of the end.
        del handler
    finally:
        gc.enable()
    assert listener.ended_calls == [("initserve.v1.InitService/Describe", "CANCELLED")]
    assert in_flight.wait_until_none(0)


def test_a_request_that_cannot_be_read_is_told_of() -> None:
    def deserialize(data: bytes) -> Any:
        raise ValueError("no message")

    listener = Listener()
    handler = CallWatch([listener]).intercept_service(
        lambda details: grpc.unary_unary_rpc_method_handler(answer, deserialize), Details()
    )
    with contextlib.suppress(ValueError):
        handler.request_deserializer(b"\xff")
    del handler
    assert listener.ended_calls == [("initserve.v1.InitService/Describe", "INTERNAL")]


def test_a_trace_is_known_by_a_valid_header_only() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert trace_id(f"00-{trace}-b7ad6b7169203331-01") == trace
    for header in ("", trace, f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{trace}-b7-01"):
        assert trace_id(header) == ""
