"""A server: the service, health and reflection on one port, from start to a graceful stop."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
from initcore import MissingPackageError, Plan, VirtualFile, layout, normal, trunc_normal, uniform
from initcore.backends import Backend, select

from initserver._config import MAX_REQUEST_BYTES, ServerConfig, split_address
from initserver._handlers import SERVICE_NAME, add_to_server
from initserver._limits import Limits
from initserver._service import InitService

# Threads for everything that is not a download; such calls end at once.
_SHORT_CALL_THREADS = 4

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Left on, a second server on the same port would start and take half of the calls.
    ("grpc.so_reuseport", 0),
]


class ListenError(OSError):
    """The server cannot listen at the address that it was given."""


class Server:
    """Serves plans at an address.

    Args:
        config: how it runs.

    Attributes:
        config: how it runs.
        backend: what draws the samples.
        address: HOST:PORT that it listens at, with the real port where 0 was asked for.

    Raises:
        ListenError: if the address cannot be had.
        PlanError: if the backend's name is not known.
        BackendError: if the backend cannot run here.
        MissingPackageError: if an optional package is needed.
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        self.config = config or ServerConfig()
        self._health = _Health()
        self.backend = select(self.config.backend)
        self._streams = ThreadPoolExecutor(self.config.threads, "initserver-stream")
        self._ahead = ThreadPoolExecutor(self.config.threads, "initserver-chunk")
        self._calls = ThreadPoolExecutor(_SHORT_CALL_THREADS, "initserver-call")
        self._server = grpc.server(self._calls, options=_OPTIONS)
        limits = Limits(max_matrix_elements=self.config.max_matrix_elements)
        service = InitService(self.backend, self._ahead, limits)
        add_to_server(service, self._server, self._streams)
        self._health.add_to_server(self._server)
        self.address = _listen(self._server, self.config.listen)

    def start(self) -> None:
        """Warms the backend up and answers calls from then on."""
        warm_up(self.backend)
        self._health.start_serving()
        self._server.start()

    def stop(self, grace: float | None = None) -> threading.Event:
        """Stops: health says NOT_SERVING, new calls are refused, running ones may finish.

        Args:
            grace: seconds until running calls are cut off; None means the configuration's.

        Returns:
            An event that is set when the last call has ended.
        """
        self._health.stop_serving()
        stopped: threading.Event = self._server.stop(self.config.grace if grace is None else grace)
        return stopped

    def close(self, grace: float | None = None) -> None:
        """Stops, waits until the last call has ended, and frees the threads."""
        self.stop(grace).wait()
        for pool in (self._streams, self._ahead, self._calls):
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever leaves with an error waits for nobody.
        self.close(None if error is None else 0)


class _Health:
    """grpc.health.v1 for the whole server and for its service, and reflection beside it."""

    def __init__(self) -> None:
        try:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        except ImportError as error:
            raise MissingPackageError("grpcio-health-checking", "server", "initserver") from error
        try:
            from grpc_reflection.v1alpha import reflection
        except ImportError as error:
            raise MissingPackageError("grpcio-reflection", "server", "initserver") from error
        self._states: Any = health_pb2.HealthCheckResponse
        self._servicer = health.HealthServicer()
        self._add = health_pb2_grpc.add_HealthServicer_to_server
        self._reflection = reflection
        self._names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        self._set(self._states.NOT_SERVING)

    def add_to_server(self, server: grpc.Server) -> None:
        self._add(self._servicer, server)
        self._reflection.enable_server_reflection(self._names, server)

    def start_serving(self) -> None:
        self._set(self._states.SERVING)

    def stop_serving(self) -> None:
        self._servicer.enter_graceful_shutdown()

    def _set(self, state: int) -> None:
        for name in ("", SERVICE_NAME):
            self._servicer.set(name, state)


def warm_up(backend: Backend) -> None:
    """Draws a little of everything, so that compiling is not the first client's wait."""
    count = (1024,)
    plan = Plan(
        {
            f"{make.__name__}.{dtype}": make(count, dtype=dtype)
            for make in (normal, uniform, trunc_normal)
            for dtype in ("F32", "BF16", "F16")
        }
    )
    file = VirtualFile(layout(plan), backend)
    file.read(0, file.size)


def _listen(server: grpc.Server, listen: str) -> str:
    host, port = split_address(listen)
    _try_address(listen, host, port)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(f"cannot listen at {listen}") from error
    if port == 0:
        raise ListenError(f"cannot listen at {listen}")
    return f"{listen.rpartition(':')[0]}:{port}"


def _try_address(listen: str, host: str, port: int) -> None:
    """Binds a plain socket first: the system says why it cannot, gRPC only that it cannot.

    Raises:
        ListenError: with the system's reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise ListenError(f"cannot listen at {listen}: {error.strerror or error}") from error
