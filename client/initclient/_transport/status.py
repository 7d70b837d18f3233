"""Translates gRPC errors: the error to raise, and whether to retry first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from initcore import Plan, PlanError, Violation

from initclient._exceptions import (
    AuthenticationError,
    BusyError,
    DeadlineError,
    IntegrityError,
    LimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from initclient._transport.faults import Fault, Verdict

_PATH = re.compile(r"tensors\[(\d+)\]\.(.+)", re.DOTALL)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
_NOT_CONNECTED = re.compile("failed to connect|connections to all backends failing", re.IGNORECASE)
_PUSHBACK = "grpc-retry-pushback-ms"

_M = TypeVar("_M", bound=Message)

# Codes of broken connections: the server stopped, a proxy closed the connection, or bytes were
# damaged in transit, which can lead to almost any code.
_BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DATA_LOSS,
}


def translate(
    error: grpc.RpcError, target: str, plan: Plan, progress: str = "", encrypted: bool = False
) -> Fault:
    """The fault of a failed call.

    Args:
        error: gRPC's error.
        target: the server's address.
        plan: the plan of the request.
        progress: the bytes that arrived, such as "3 of 10 bytes"; empty before the first answer.
        encrypted: whether the client used TLS.
    """
    fault = _fault(error, target, plan, progress, encrypted)
    fault.error.__cause__ = error
    if fault.pushback is not None and fault.pushback < 0 and fault.verdict is Verdict.AGAIN:
        fault.verdict = Verdict.UNFIT
    return fault


def _fault(error: grpc.RpcError, target: str, plan: Plan, progress: str, encrypted: bool) -> Fault:
    code, text = error.code(), error.details() or "no details"
    where = f" after {progress}" if progress else ""
    details = _details(error)
    match code:
        case grpc.StatusCode.UNAVAILABLE if not progress or _NOT_CONNECTED.search(text):
            return _unreached(text, target, encrypted, details)
        case _ if code in _BROKEN:
            return Fault(
                TransportError(f"the connection to {target} broke{where} ({text})"),
                pushback=details.pushback,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Fault(DeadlineError(f"the timeout expired{where} during a call to {target}"))
        case grpc.StatusCode.INVALID_ARGUMENT if details.reason.startswith("MAX_"):
            return Fault(
                LimitError(
                    f"{target} refuses the plan: {text}",
                    code.name,
                    details.reason,
                    details.metadata,
                ),
                Verdict.FINAL,
            )
        case grpc.StatusCode.INVALID_ARGUMENT:
            violations = _violations(details.bad_request, plan)
            if violations:
                return Fault(PlanError(violations), Verdict.FINAL)
        case grpc.StatusCode.FAILED_PRECONDITION:
            return Fault(
                IntegrityError(
                    f"{target} reads this plan differently ({text}); is it a server of the same "
                    "version of initserve?"
                ),
                Verdict.DIFFERS,
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return Fault(
                AuthenticationError(f"{target} refuses this client: {text}"),
                Verdict.FINAL,
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return Fault(
                ServerError(
                    f"{target} is not an initserver, or one of an older version ({text})",
                    code.name,
                ),
                Verdict.UNFIT,
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _exhausted(text, target, where, details)
        case _:
            pass
    # After a failure inside the server, or damage in transit, the next call may succeed.
    again = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return Fault(
        ServerError(
            f"{target} answered {code.name}{where}: {text}",
            code.name,
            details.reason,
            details.metadata,
        ),
        Verdict.AGAIN if again else Verdict.FINAL,
        details.pushback if again else None,
    )


def _unreached(text: str, target: str, encrypted: bool, details: _Details) -> Fault:
    """The fault without a connection, or of a server that is about to stop."""
    refused = _CERTIFICATE.search(text)
    if refused:
        why = f"the certificate of {target} is not accepted: {refused[1].strip()}"
    elif "Hostname Verification" in text or "is not in peer certificate" in text:
        why = f"the certificate of {target} is for another name or address"
    elif "WRONG_VERSION_NUMBER" in text:
        why = f"{target} does not speak TLS; leave out tls, ca and cert to connect without"
    elif "security handshaker" in text:
        why = "the CA, certificate or key file does not hold a certificate or key in PEM"
    else:
        reason = "connection refused" if "Connection refused" in text else text
        hint = f"Is initserver running at {target}?"
        if "Socket closed" in text or "Handshake" in text or "Connection reset" in text:
            # A server that rejects the TLS handshake looks like this to the client.
            reason = f"the server closed the connection: {text}"
            want = "a client certificate that it accepts" if encrypted else "TLS"
            hint = f"Does it ask for {want}?"
        return Fault(
            UnavailableError(f"no answer from {target} ({reason}). {hint}"),
            pushback=details.pushback,
        )
    return Fault(AuthenticationError(why), Verdict.UNFIT)


def _exhausted(text: str, target: str, where: str, details: _Details) -> Fault:
    """The fault of a busy server, of a limit, or of a length damaged in transit."""
    if "CLIENT: Received message larger than max" in text:
        # No server sends messages of this length.
        return Fault(TransportError(f"the connection to {target} broke{where} ({text})"))
    message = f"{target} answered RESOURCE_EXHAUSTED{where}: {text}"
    rest = ("RESOURCE_EXHAUSTED", details.reason, details.metadata)
    if details.pushback is None:
        return Fault(LimitError(message, *rest), Verdict.FINAL)
    if details.pushback < 0:
        return Fault(BusyError(message, *rest), Verdict.UNFIT)
    return Fault(BusyError(message, *rest), Verdict.BUSY, details.pushback)


@dataclass
class _Details:
    """The details of a status.

    Attributes:
        reason: the cause, as a constant.
        metadata: further values, such as a limit's name and value.
        pushback: seconds to wait before the next call; below zero: no retry.
        bad_request: the violations that the server found.
    """

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    pushback: float | None = None
    bad_request: list[error_details_pb2.BadRequest.FieldViolation] = field(default_factory=list)


def _details(error: grpc.RpcError) -> _Details:
    found = _Details()
    for detail in _status(error).details:
        if info := _unpack(detail, error_details_pb2.ErrorInfo):
            found.reason, found.metadata = info.reason, dict(info.metadata)
        elif retry := _unpack(detail, error_details_pb2.RetryInfo):
            delay = retry.retry_delay
            found.pushback = max(0.0, delay.seconds + delay.nanos * 1e-9)
        elif bad_request := _unpack(detail, error_details_pb2.BadRequest):
            found.bad_request += bad_request.field_violations
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK:
            try:
                found.pushback = int(value) / 1000
            except ValueError:
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


def _violations(
    items: list[error_details_pb2.BadRequest.FieldViolation], plan: Plan
) -> list[Violation]:
    """The violations as the server found them."""
    names = list(plan.tensors)
    return [_violation(item, names) for item in items]


def _violation(item: error_details_pb2.BadRequest.FieldViolation, names: list[str]) -> Violation:
    field, name, index = item.field, "", None
    match = _PATH.fullmatch(field)
    if match and int(match[1]) < len(names):
        index, field = int(match[1]), match[2]
        name = names[index]
    # The description is the violation as text, which begins with the tensor and field.
    prefix = str(Violation(name, field, ""))
    message = item.description.removeprefix(prefix)
    return Violation(name, field, message, index)
