"""Refuses calls before their method runs: the refusal, and the gate of a server that drains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from initserver.wire import Refusal, answered

PROBES = "/grpc.health.v1.Health/"
"""Methods that are never refused."""

_DRAINING = "this server is stopping and takes no new calls; ask another replica"


def refusing(code: grpc.StatusCode, reason: str, sentence: str) -> Any:
    """A handler that refuses a call with a status, whether its method is unary or a stream."""

    def refuse(requests: Any, context: grpc.ServicerContext) -> None:
        with answered(context):
            raise Refusal(code, reason, sentence)

    # As a stream, it need not read a request before it answers.
    return grpc.stream_stream_rpc_method_handler(refuse)


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]
    """Accepts all calls until it is closed, then only health checks.

    gRPC cuts off calls that arrive at the moment when it stops, with CANCELLED or worse. A
    closed gate refuses them before that, with UNAVAILABLE, so clients try another replica.
    """

    def __init__(self) -> None:
        self._is_closed = False

    def close(self) -> None:
        """Refuses new calls from now on."""
        self._is_closed = True

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """The method's handler, or one that answers UNAVAILABLE."""
        if self._is_closed and not handler_call_details.method.startswith(PROBES):
            return refusing(grpc.StatusCode.UNAVAILABLE, "DRAINING", _DRAINING)
        return continuation(handler_call_details)
