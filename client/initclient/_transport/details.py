"""The details of a gRPC status: reason, metadata, time to retry, violations of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from initcore.show import printable

FieldViolation: TypeAlias = error_details_pb2.BadRequest.FieldViolation
"""A field of a request, and its fault."""

_PUSHBACK = "grpc-retry-pushback-ms"

_M = TypeVar("_M", bound=Message)


@dataclass
class Details:
    """The details of a status.

    Attributes:
        reason: the cause, as a constant.
        metadata: further values, such as a limit's name and value.
        pushback: seconds to wait before the next call; below zero: no call to this server.
        violations: the violations that the server found.
    """

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    pushback: float | None = None
    violations: list[FieldViolation] = field(default_factory=list)


def details_of(error: grpc.RpcError) -> Details:
    """The details of an error's status, as far as they can be read."""
    found = Details()
    for detail in _status(error).details:
        if info := _unpack(detail, error_details_pb2.ErrorInfo):
            found.reason, found.metadata = printable(info.reason, 100), dict(info.metadata)
        elif retry := _unpack(detail, error_details_pb2.RetryInfo):
            delay = retry.retry_delay
            found.pushback = max(0.0, delay.seconds + delay.nanos * 1e-9)
        elif bad_request := _unpack(detail, error_details_pb2.BadRequest):
            found.violations += bad_request.field_violations
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK:
            try:
                found.pushback = int(value) / 1000
            except (ValueError, OverflowError):
                # As in gRPC: a malformed pushback means no retry.
                found.pushback = -1.0
    return found


def _status(error: grpc.RpcError) -> status_pb2.Status:
    from grpc_status import rpc_status

    try:
        status: status_pb2.Status | None = rpc_status.from_call(error)
    except Exception:  # protobuf's errors have no common base across its versions
        # A proxy may add details that contradict the status.
        status = None
    return status_pb2.Status() if status is None else status


def _unpack(detail: Message, kind: type[_M]) -> _M | None:
    message = kind()
    try:
        unpacked: bool = detail.Unpack(message)  # type: ignore[attr-defined]
    except Exception:  # a damaged detail is no detail
        return None
    return message if unpacked else None
