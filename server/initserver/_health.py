"""grpc.health.v1 for the whole server and for its service, and reflection beside it."""

from __future__ import annotations

from typing import Any

import grpc
from initcore import MissingPackageError

from initserver._handlers import SERVICE_NAME


class Health:
    """NOT_SERVING until told otherwise, for the names "" and that of the service."""

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

    def _set(self, state: int) -> None:
        for name in ("", SERVICE_NAME):
            self._servicer.set(name, state)
