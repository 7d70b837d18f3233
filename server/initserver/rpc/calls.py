"""Follows every call from its beginning to its end, streams included, and notifies watchers.

A server interceptor sees a method before it runs, not how the call ends: a stream ends long
after its method has returned, and a cancelled one without any notice. So the handler of each
call is wrapped: its serializer counts bytes, its iterator notes whether the stream is complete,
and gRPC's callback at the end of the call, which always comes, finds the status.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

import grpc

from initserver.rpc.tokens import CALLER

UNKNOWN_METHOD = "unknown"
"""The method of all calls to methods that do not exist: clients could invent any number."""

_CANCELLED = (
    "the client cancelled the call, disconnected or did not send its request in time, or the "
    "server's grace was over"
)
_LATE = "the client's deadline passed"

# W3C trace context: version, trace id, parent id, flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(eq=False)
class Call:
    """One call. A field is empty until its value is known.

    Attributes:
        method: full name without the leading slash, such as initserve.v1.InitService/Fetch.
        metadata: the client's metadata; has its token, so it is never logged.
        caller: name of the call's token, or of the client's certificate.
        user_agent: the client's program.
        trace_id: of the trace that the call belongs to, 32 hexadecimal digits.
        peer: the client's address.
        plan_digest: of the plan in question.
        read_offset: where a Fetch begins.
        read_limit: how many bytes it asks for, 0 for all.
        bytes_sent: bytes of messages, as handed to gRPC.
        code: the status code with which it ended.
        reason: the status message, if it failed.
        seconds: its duration.
    """

    method: str
    metadata: Sequence[tuple[str, str | bytes]] = field(repr=False, default=())
    caller: str = ""
    user_agent: str = ""
    trace_id: str = ""
    peer: str = ""
    plan_digest: str = ""
    read_offset: int = 0
    read_limit: int = 0
    bytes_sent: int = 0
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def is_probe(self) -> bool:
        """Whether it belongs to health checks or reflection rather than to the service."""
        return self.method.startswith("grpc.")


class Watcher(Protocol):
    """Is notified of calls. Must be quick and never raise: gRPC's own thread calls it."""

    def started(self, call: Call) -> None:
        """A call has arrived."""

    def ended(self, call: Call) -> None:
        """A call has ended, with any status."""


class CallWatch(grpc.ServerInterceptor):  # type: ignore[misc]
    """Notifies watchers of every call. The first interceptor, so that it sees refusals too."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """The method's handler, watched."""
        handler = continuation(handler_call_details)
        metadata = tuple(handler_call_details.invocation_metadata or ())
        call = Call(
            method=handler_call_details.method.removeprefix("/") if handler else UNKNOWN_METHOD,
            metadata=metadata,
            caller=CALLER.get(),
            user_agent=_text(metadata, "user-agent")[:200],
            trace_id=trace_id(_text(metadata, "traceparent")),
        )
        watched = _Watched(call, self._watchers)
        if handler is None:
            watched.end(grpc.StatusCode.UNIMPLEMENTED, f"no method {handler_call_details.method!r}")
            return None
        return watched.handler(handler)


class _Watched:
    """One watched call, whose handler is wrapped."""

    def __init__(self, call: Call, watchers: Iterable[Watcher]) -> None:
        self._call = call
        self._watchers = watchers
        self._lock = threading.Lock()
        self._ended = False
        self._is_complete = False
        self._failure = ""
        for watcher in watchers:
            watcher.started(call)

    def __del__(self) -> None:
        # A call that is cancelled while it waits for a thread never reaches its method: gRPC
        # only deletes the handler.
        self.end(grpc.StatusCode.CANCELLED, _CANCELLED)

    def handler(self, inner: Any) -> Any:
        """A handler that behaves like the inner one."""
        if inner.response_streaming:
            behavior = inner.stream_stream if inner.request_streaming else inner.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if inner.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            outer = self._streaming(behavior)
        else:
            behavior = inner.stream_unary if inner.request_streaming else inner.unary_unary
            make = (
                grpc.stream_unary_rpc_method_handler
                if inner.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            outer = self._answering(behavior)
        # gRPC chooses threads by these attributes.
        for name in ("experimental_thread_pool", "experimental_non_blocking"):
            if hasattr(behavior, name):
                setattr(outer, name, getattr(behavior, name))
        return make(
            outer,
            self._reading(inner.request_deserializer),
            self._writing(inner.response_serializer),
        )

    def end(self, code: grpc.StatusCode, reason: str) -> None:
        """Notifies the watchers, once."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        call = self._call
        call.code, call.reason = code, reason
        call.seconds = time.monotonic() - call.began
        for watcher in self._watchers:
            watcher.ended(call)

    def _begin(self, request: Any, context: grpc.ServicerContext) -> None:
        self._call.peer = unquote(context.peer())
        if not self._call.caller:
            names = context.auth_context().get("x509_common_name", ())
            self._call.caller = names[0].decode(errors="replace") if names else ""
        self._call.read_offset = getattr(request, "read_offset", 0)
        self._call.read_limit = getattr(request, "read_limit", 0)
        if not context.add_callback(lambda: self._conclude(context)):
            self._conclude(context)

    def _conclude(self, context: grpc.ServicerContext) -> None:
        code, details = context.code(), context.details() or b""
        if code is None:
            if self._failure:
                code, details = grpc.StatusCode.UNKNOWN, self._failure.encode()
            elif self._is_complete:
                code = grpc.StatusCode.OK
            elif context.time_remaining() <= 0:
                code, details = grpc.StatusCode.DEADLINE_EXCEEDED, _LATE.encode()
            else:
                code, details = grpc.StatusCode.CANCELLED, details or _CANCELLED.encode()
        self.end(code, details.decode(errors="replace"))

    def _answering(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self._begin(request, context)
            with self._noting_failures(context):
                response = behavior(request, context)
            self._is_complete = True
            return response

        return answer

    def _streaming(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def stream(request: Any, context: grpc.ServicerContext, *send: Any) -> Any:
            self._begin(request, context)
            if send:
                # The form without a thread: responses go to a function, None is the end.
                return behavior(request, context, self._sending(send[0]))
            with self._noting_failures(context):
                responses = behavior(request, context)
            return self._passing_on(responses, context)

        return stream

    def _sending(self, send: Callable[[Any], None]) -> Callable[[Any], None]:
        def send_on(response: Any) -> None:
            if response is None:
                self._is_complete = True
            send(response)

        return send_on

    def _passing_on(self, responses: Iterable[Any], context: Any) -> Iterator[Any]:
        with self._noting_failures(context):
            yield from responses
        self._is_complete = True

    @contextmanager
    def _noting_failures(self, context: grpc.ServicerContext) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Aborting raises too, after it has set the code.
            if context.code() is None:
                self._failure = f"{type(error).__name__} left the method"
            raise

    def _reading(self, deserialize: Callable[[bytes], Any] | None) -> Any:
        if deserialize is None:
            return None

        def read(data: bytes) -> Any:
            try:
                return deserialize(data)
            except Exception:
                # gRPC answers INTERNAL by itself, and the method never runs.
                self.end(grpc.StatusCode.INTERNAL, "the request is not a valid message")
                raise

        return read

    def _writing(self, serialize: Callable[[Any], bytes] | None) -> Any:
        def write(message: Any) -> bytes:
            try:
                data: bytes = serialize(message) if serialize else message
            except Exception as error:
                self._failure = f"{type(error).__name__} left the serializer"
                raise
            call = self._call
            call.bytes_sent += len(data)
            if not call.plan_digest:
                call.plan_digest = getattr(getattr(message, "info", None), "plan_digest", "")
            return data

        return write


def trace_id(traceparent: str) -> str:
    """The trace's id in a W3C `traceparent`, "" if there is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found and found[1].strip("0") else ""


def _text(metadata: Sequence[tuple[str, str | bytes]], key: str) -> str:
    for name, value in metadata:
        if name == key and isinstance(value, str):
            return value
    return ""


class InFlight:
    """Counts the calls of the service that run, so that a server can end with the last one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def started(self, call: Call) -> None:
        """One more."""
        if not call.is_probe:
            with self._condition:
                self._count += 1

    def ended(self, call: Call) -> None:
        """One less."""
        if not call.is_probe:
            with self._condition:
                self._count -= 1
                self._condition.notify_all()

    def wait_until_none(self, seconds: float) -> bool:
        """Waits until no call runs; false if some still do after this time."""
        with self._condition:
            return self._condition.wait_for(lambda: self._count == 0, seconds)
