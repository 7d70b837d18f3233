"""grpc.health.v1 for the whole server and for its service, and reflection beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from initcore import MissingPackageError

from initserver.rpc.handlers import SERVICE_NAME

# A check takes no time, and a client that watches holds no thread.
_THREADS = 2


class Health:
    """The health of "" and of the service: NOT_SERVING until `start_serving`."""

    def __init__(self) -> None:
        try:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        except ImportError as error:
            raise MissingPackageError("grpcio-health-checking", "server", "initserver") from error
        try:
            from grpc_reflection.v1alpha import reflection
        except ImportError as error:
            raise MissingPackageError("grpcio-reflection", "server", "initserver") from error
        self._pool = ThreadPoolExecutor(_THREADS, "initserver-health")
        self._states: Any = health_pb2.HealthCheckResponse
        self._servicer = _servicer(health.HealthServicer, self._pool)
        self._add = health_pb2_grpc.add_HealthServicer_to_server
        self._reflection = reflection
        self._names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        self.is_serving = False
        self._set(self._states.NOT_SERVING)

    def add_to_server(self, server: grpc.Server) -> None:
        """Registers both services."""
        self._add(self._servicer, server)
        self._reflection.enable_server_reflection(self._names, server)

    def start_serving(self) -> None:
        """Says SERVING from now on."""
        self.is_serving = True
        self._set(self._states.SERVING)

    def stop_serving(self) -> None:
        """Says NOT_SERVING from now on, for good."""
        self.is_serving = False
        self._servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """Frees the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _set(self, state: int) -> None:
        for name in ("", SERVICE_NAME):
            self._servicer.set(name, state)


def _servicer(base: type[Any], pool: ThreadPoolExecutor) -> Any:
    """The servicer of grpcio-health-checking, with threads of its own.

    In the threads of other calls, a few clients that keep a reflection stream open would make
    a healthy server look dead. Each server has its own class, because gRPC and the package
    both look for the threads at the methods, which all objects of a class share.
    """

    class Servicer(base):  # type: ignore[misc]
        def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
            return super().Check(request, context)

        def Watch(self, request: Any, context: Any, *send: Any) -> Any:  # noqa: N802
            return super().Watch(request, context, *send)

    Servicer.Check.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return Servicer(experimental_non_blocking=True, experimental_thread_pool=pool)
