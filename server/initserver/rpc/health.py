"""grpc.health.v1 for the whole server and for its service, and reflection beside it.

The servicer of grpcio-health-checking sends under its lock and keeps every name that a client
asks about, so one client that takes no message would stop all health checks. This one sends
without a lock, and within a client's turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from initcore import MissingPackageError

from initserver.rpc.handlers import SERVICE_NAME
from initserver.rpc.turns import FEW_TURNS, ClientTurns

# A check takes no time; the rest are for clients that have the turn.
_THREADS = 2 + FEW_TURNS

_HEALTH = "grpc.health.v1.Health"


class Health:
    """The health of "" and of the service: NOT_SERVING until `start_serving`.

    Args:
        turns: bounds what clients may take.

    Attributes:
        is_serving: what it says.
    """

    def __init__(self, turns: ClientTurns) -> None:
        try:
            from grpc_health.v1 import health_pb2
        except ImportError as error:
            raise MissingPackageError("grpcio-health-checking", "server", "initserver") from error
        try:
            from grpc_reflection.v1alpha import reflection
        except ImportError as error:
            raise MissingPackageError("grpcio-reflection", "server", "initserver") from error
        self._turns = turns
        self._pool = ThreadPoolExecutor(_THREADS, "initserver-health")
        self._reflection_pool = ThreadPoolExecutor(_THREADS, "initserver-reflection")
        for pool in (self._pool, self._reflection_pool):
            turns.expect_few(pool)
        self._messages: Any = health_pb2
        self._reflection = reflection
        self._lock = threading.Lock()
        self._watches: dict[object, _Watch] = {}
        self.is_serving = False
        self._is_stopped = False

    def add_to_server(self, server: grpc.Server) -> None:
        """Registers both services."""
        request, response = self._messages.HealthCheckRequest, self._messages.HealthCheckResponse

        def check(request: Any, context: grpc.ServicerContext) -> Any:
            if not self._knows(request.service):
                context.abort(grpc.StatusCode.NOT_FOUND, "no service of this name is here")
            return response(status=self._state)

        def watch(request: Any, context: grpc.ServicerContext, send: Callable[..., None]) -> None:
            def send_state(state: int) -> None:
                with self._turns.turn(context, self._pool):
                    send(response(status=state))

            if not self._knows(request.service):
                send_state(response.SERVICE_UNKNOWN)
            elif self._add(context, _Watch(send_state)):
                self._tell(self._watches.get(context))

        # gRPC looks for these attributes. A watch has no thread of its own.
        check.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        watch.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        codec = (request.FromString, response.SerializeToString)
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(check, *codec),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, *codec),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_HEALTH, handlers),))
        server.add_registered_method_handlers(_HEALTH, handlers)
        self._add_reflection(server)

    def start_serving(self) -> None:
        """Says SERVING from now on."""
        self._set(True)

    def stop_serving(self) -> None:
        """Says NOT_SERVING from now on, for good."""
        self._is_stopped = True
        self._set(False)

    def close(self) -> None:
        """Frees the threads."""
        for pool in (self._pool, self._reflection_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _state(self) -> int:
        states = self._messages.HealthCheckResponse
        return int(states.SERVING if self.is_serving else states.NOT_SERVING)

    def _knows(self, service: str) -> bool:
        return service in ("", SERVICE_NAME)

    def _set(self, is_serving: bool) -> None:
        with self._lock:
            self.is_serving = is_serving and not self._is_stopped
            watches = list(self._watches.values())
        for watch in watches:
            # In threads of their own: a client that takes nothing delays nobody else.
            self._pool.submit(self._tell, watch)

    def _add(self, context: grpc.ServicerContext, watch: _Watch) -> bool:
        """Keeps a watch until its call has ended; false if that was before."""

        def ended() -> None:
            with self._lock:
                self._watches.pop(context, None)

        with self._lock:
            self._watches[context] = watch
        if not context.add_callback(ended):
            ended()
            return False
        return True

    def _tell(self, watch: _Watch | None) -> None:
        """Sends the state to a client that does not know it."""
        while watch:
            with self._lock:
                state = self._state
                if watch.is_sending or watch.told == state:
                    return
                watch.is_sending, watch.told = True, state
            try:
                watch.send(state)
            finally:
                with self._lock:
                    watch.is_sending = False

    def _add_reflection(self, server: grpc.Server) -> None:
        names = (SERVICE_NAME, _HEALTH, self._reflection.SERVICE_NAME)
        turns, pool = self._turns, self._reflection_pool

        class Reflection(self._reflection.ReflectionServicer):  # type: ignore[misc,name-defined]
            """Answers within its clients' turns, in threads of its own."""

            def ServerReflectionInfo(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802
                def read() -> Iterator[Any]:
                    while True:
                        with turns.turn(context, pool):
                            request = next(requests, None)
                        if request is None:
                            return
                        yield request

                for response in super().ServerReflectionInfo(read(), context):
                    with turns.turn(context, pool):
                        yield response

            ServerReflectionInfo.experimental_thread_pool = pool  # type: ignore[attr-defined]

        from grpc_reflection.v1alpha import reflection_pb2_grpc

        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names), server)


class _Watch:
    """A client that watches the state."""

    def __init__(self, send: Callable[[int], None]) -> None:
        self.send = send
        self.told: int | None = None
        self.is_sending = False
