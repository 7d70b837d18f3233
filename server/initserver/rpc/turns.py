"""Bounds the time and the number of calls that keep a thread while it is the client's turn.

gRPC for Python blocks a thread until the client has sent its request, or has made room for a
message. A client that never does would keep the thread for good, and a few of them all threads
of a pool. So each turn of a client has an end, and when too many clients of one group have the
turn, the call of the oldest one is cancelled. A client that answers at once is never the oldest
for long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

TURN_SECONDS = 10.0
"""How long a request of any size may take to arrive, and a status of health to be taken."""

MOST_TURNS, FEW_TURNS = 16, 8
"""Clients of one group that may have the turn for long: where requests have plans, and where
they are a few bytes."""

# A request with a plan may take so long whatever the others do: a whole job may come at once.
# Others arrive along with their headers.
_UNDISTURBED_SECONDS = 0.05

_LOOK_SECONDS = 0.05


@dataclass(eq=False)
class _Turn:
    context: grpc.ServicerContext
    began: float = field(default_factory=time.monotonic)


class ClientTurns:
    """Which calls wait for their client now.

    Args:
        seconds: how long a turn may last.
    """

    def __init__(self, seconds: float = TURN_SECONDS) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        # By group, each in the order of their beginning.
        self._open: dict[object, dict[_Turn, None]] = {}
        self._few: set[object] = set()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def expect_few(self, group: object) -> None:
        """Bounds a group whose requests have a few bytes by `FEW_TURNS`."""
        self._few.add(group)

    @contextmanager
    def turn(self, context: grpc.ServicerContext, group: object) -> Iterator[None]:
        """It is the client's turn in the body; the call is cancelled if that takes too long."""
        turn = _Turn(context)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="initserver-turns", daemon=True
                )
                self._thread.start()
            if not any(self._open.values()):
                self._changed.notify()
            turns = self._open.setdefault(group, {})
            turns[turn] = None
            late = self._late()
        _cancel(late)
        try:
            yield
        finally:
            with self._changed:
                turns.pop(turn, None)

    def close(self) -> None:
        """Ends the thread that looks after the time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or any(self._open.values()))
                if self._is_closed:
                    return
                late = self._late()
                self._changed.wait(_LOOK_SECONDS)
            _cancel(late)

    def _late(self) -> list[_Turn]:
        """Takes out the turns that are over, and the oldest where there are too many."""
        now, late = time.monotonic(), []
        for group, turns in self._open.items():
            while turns:
                first = next(iter(turns))
                is_few = group in self._few
                lasts = self._seconds
                if len(turns) > (FEW_TURNS if is_few else MOST_TURNS):
                    lasts = 0.0 if is_few else _UNDISTURBED_SECONDS
                if now - first.began < lasts:
                    break
                del turns[first]
                late.append(first)
        return late


def _cancel(turns: Sequence[_Turn]) -> None:
    for turn in turns:
        turn.context.cancel()


class Arrivals(grpc.ServerInterceptor):  # type: ignore[misc]
    """Reads requests in the threads of their methods, and each within a client's turn.

    gRPC reads the request of a method that takes a single one before the method runs, and
    parses it in the one thread that serves all calls. A method that takes a stream reads and
    parses for itself. On the wire both are the same, so this makes the one from the other. The
    first interceptor, so that the others see the methods as they are.
    """

    def __init__(self, turns: ClientTurns) -> None:
        self._turns = turns

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """The method's handler, which reads its request itself."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        behavior = handler.unary_stream if handler.response_streaming else handler.unary_unary
        group = getattr(behavior, "experimental_thread_pool", None)
        parse = handler.request_deserializer

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext, *send: Any) -> Any:
            with self._turns.turn(context, group):
                data = next(requests, None)
            if data is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "the call has no request message")
            try:
                request = parse(data) if parse else data
            except Exception:
                context.abort(grpc.StatusCode.INTERNAL, "the request is not a valid message")
            return behavior(request, context, *send)

        # gRPC chooses threads by these attributes.
        for name in ("experimental_thread_pool", "experimental_non_blocking"):
            if hasattr(behavior, name):
                setattr(answer, name, getattr(behavior, name))
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(answer, None, handler.response_serializer)
