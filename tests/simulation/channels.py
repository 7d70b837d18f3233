"""Channels of the world: gRPC's blocking and asyncio calls, as far as the client uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from tests.simulation.world import CALLS, Flag, Process, World


class Status(grpc.RpcError):  # type: ignore[misc]
    """The error of a call that a server, a proxy or the channel ended."""

    def __init__(
        self,
        code: grpc.StatusCode,
        text: str,
        trailers: tuple[tuple[str, str | bytes], ...] = (),
    ) -> None:
        super().__init__()
        self._code, self._text, self._trailers = code, text, trailers

    def code(self) -> grpc.StatusCode:
        """Its code."""
        return self._code

    def details(self) -> str:
        """Its text."""
        return self._text

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Its trailers."""
        return self._trailers


@dataclass(frozen=True)
class Event:
    """A thing that a server does in a call.

    Attributes:
        delay: seconds after the event before; infinity for silence.
        raw: a message; None at the end.
        status: the error at the end; None for a good one.
        good: bytes of the file in it, which the client has to accept.
        text: its line in the trace.
    """

    delay: float
    raw: bytes | None = None
    status: Status | None = None
    good: int = 0
    text: str = ""


class Exchange:
    """One call.

    Args:
        world: its world.
        script: what the server does.
        timeout: seconds until its deadline.
    """

    def __init__(self, world: World, script: Iterator[Event], timeout: float | None) -> None:
        self._world = world
        self._script = script
        self._deadline = float("inf") if timeout is None else world.time + timeout
        self._interrupted = Flag(world)
        self._ended: Status | None = None
        self.process: Process = world.task.process
        self.wake: Callable[[], None] = self._interrupted.wake
        self.process.calls.add(self)
        self._count()

    def _count(self) -> None:
        """Notes the call, of which there may be many only where bytes arrive or time passes."""
        process = self.process
        process.requests += 1
        took = self._world.time - process.started
        if process.requests > 60 + 40 * took + 4 * process.accepted:
            self._world.fail(CALLS, f"{process.requests} calls in {took:.1f} s")

    def interrupt(self, status: Status) -> None:
        """Ends the call from outside."""
        if self._ended is None:
            self._ended = status
            self.wake()

    def cancel(self) -> None:
        """Ends the call from inside."""
        self.process.calls.discard(self)
        self.interrupt(Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))

    def abandon(self) -> None:
        """The caller is gone."""
        self._ended = Status(grpc.StatusCode.CANCELLED, "killed")

    def receive(self) -> bytes | None:
        """The next message; None at the end."""
        event, delay = self.begin()
        self._interrupted.wait(delay)
        return self.complete(event, delay)

    def begin(self) -> tuple[Event, float | None]:
        """The next event, and the wait for it, if nothing interrupts; None is for ever."""
        self._world.step("receive")
        if self._ended:
            raise self._ended
        event = next(self._script)
        delay = min(event.delay, self._deadline - self._world.time)
        return event, None if delay == float("inf") else max(0.0, delay)

    def complete(self, event: Event, delay: float | None) -> bytes | None:
        """The event after the wait."""
        world = self._world
        if self._ended is None and (delay is None or delay < event.delay):
            self._ended = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        if self._ended:
            world.log(f"call ends: {self._ended.code().name}")
            raise self._ended
        world.log(event.text)
        if event.good:
            self.process.accepted += event.good
            self.process.progressed = world.time
        if event.raw is None:
            self.process.calls.discard(self)
            if event.status:
                self._ended = event.status
                raise event.status
        return event.raw


class Channel:
    """A blocking channel.

    Args:
        world: its world.
        address: where it leads.
        answer: gives the script of a call, from its channel, method and request.
        opened: notes a call.
    """

    def __init__(
        self,
        world: World,
        address: str,
        answer: Callable[[Channel, str, Any], Iterator[Event]],
        opened: Callable[[str, Exchange], None],
    ) -> None:
        self.world = world
        self.address = address
        self.epoch: int | None = None
        self._answer = answer
        self._opened = opened

    def unary_stream(self, method: str, request_serializer: Any) -> Callable[..., Any]:
        """A method with many answers."""

        def call(request: Any, *, timeout: float | None = None, metadata: Any = None) -> Any:
            return _Stream(self.exchange(method, request, timeout))

        return call

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any = bytes
    ) -> Callable[..., Any]:
        """A method with one answer."""

        def call(request: Any, *, timeout: float | None = None, metadata: Any = None) -> Any:
            exchange = self.exchange(method, request, timeout)
            raw = exchange.receive()
            exchange.cancel()
            return response_deserializer(raw)

        return call

    def close(self) -> None:
        """Nothing is left to close."""

    def exchange(self, method: str, request: Any, timeout: float | None) -> Exchange:
        """A call."""
        self.world.step("call")
        exchange = Exchange(self.world, self._answer(self, method, request), timeout)
        self._opened(self.address, exchange)
        return exchange


class _Stream:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> bytes:
        raw = self._exchange.receive()
        if raw is None:
            raise StopIteration
        return raw

    def cancel(self) -> None:
        self._exchange.cancel()


class AsyncChannel(Channel):
    """A channel of asyncio."""

    async def __aenter__(self) -> AsyncChannel:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def unary_stream(self, method: str, request_serializer: Any) -> Callable[..., Any]:
        """A method with many answers."""

        def call(request: Any, *, timeout: float | None = None, metadata: Any = None) -> Any:
            return _AsyncStream(self.exchange(method, request, timeout))

        return call

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any = bytes
    ) -> Callable[..., Any]:
        """A method with one answer."""

        async def call(request: Any, *, timeout: float | None = None, metadata: Any = None) -> Any:
            exchange = self.exchange(method, request, timeout)
            try:
                return response_deserializer(await _AsyncStream(exchange).read())
            finally:
                exchange.cancel()

        return call


class _AsyncStream:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def read(self) -> Any:
        exchange = self._exchange
        event, delay = exchange.begin()
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()

        def arrive() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def wake() -> None:
            loop.call_soon_threadsafe(arrive)

        exchange.wake = wake
        timer = None if delay is None else loop.call_later(delay, arrive)
        try:
            await arrived
        finally:
            if timer:
                timer.cancel()
        raw = exchange.complete(event, delay)
        return grpc.aio.EOF if raw is None else raw

    def cancel(self) -> None:
        self._exchange.cancel()
