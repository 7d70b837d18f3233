"""Calls that are turned away before their method: the answer, and the door of a stopping server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from initserver.wire import Refusal, answered

PROBES = "/grpc.health.v1.Health/"
"""Methods that are never turned away."""

_DRAINING = "this server is stopping and takes no new calls; ask another replica"


def refusing(code: grpc.StatusCode, reason: str, sentence: str) -> Any:
    """A handler that answers every call with a status, whatever kind of method was called."""

    def refuse(requests: Any, context: grpc.ServicerContext) -> None:
        with answered(context):
            raise Refusal(code, reason, sentence)

    # As a stream, it need not read a request before it answers.
    return grpc.stream_stream_rpc_method_handler(refuse)


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets all calls in until it is closed, and then none but probes.

    gRPC cuts off calls that arrive just when it is stopped, with CANCELLED or worse. Behind a
    closed gate there are none: they have been told to go elsewhere.
    """

    def __init__(self) -> None:
        self._is_closed = False

    def close(self) -> None:
        """Turns new calls away from now on."""
        self._is_closed = True

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """The method's handler, or one that answers UNAVAILABLE."""
        if self._is_closed and not handler_call_details.method.startswith(PROBES):
            return refusing(grpc.StatusCode.UNAVAILABLE, "DRAINING", _DRAINING)
        return continuation(handler_call_details)
