"""Refusals: the status that a client gets for an exception.

Every status has a google.rpc.ErrorInfo with the domain "initserve" and a reason of the table
`initcore.wire.statuses.REASONS`, with the metadata and further details that are listed there. A
new reason gets a row there first: clients take their next step from it.

An unexpected exception is logged here with its traceback; the client gets one sentence and a
reference. A request above `max_request_bytes` never gets here: gRPC itself answers
RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from initcore import CheckpointError, PlanError, Violation, __version__
from initcore.wire import status_of

from initserver.config import Limits
from initserver.share import LeftError

_LOG = logging.getLogger("initserver")

DOMAIN = "initserve"

MAX_VIOLATIONS = 20
"""Violations shown; a plan of a thousand layers can have the same mistake in each."""

# gRPC clients refuse more than 8 KiB of metadata in all. The status is in there twice, as
# text (percent-encoded, up to three bytes for one) and as base64.
_MAX_MESSAGE_BYTES = 700
_MAX_DETAIL_BYTES = 2500
_MAX_METADATA_BYTES = 100


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - an answer, not an error of this program
    """Ends a call with a status.

    Attributes:
        code: the status code.
        reason: the ErrorInfo's reason, from `initcore.wire.statuses`.
        details: a sentence.
        metadata: the ErrorInfo's metadata.
        field: the field of the request that is invalid, if there is one.
        retry_seconds: when to retry, if that may help.
    """

    code: grpc.StatusCode
    reason: str
    details: str
    metadata: Mapping[str, object] | None = None
    field: str | None = None
    retry_seconds: float | None = None

    def __post_init__(self) -> None:
        if status_of(self.code.name, self.reason).reason not in (self.reason, "MAX_*"):
            raise ValueError(
                f"{self.code.name} has no reason {self.reason}; add it to initcore.wire.statuses"
            )

    def status(self) -> status_pb2.Status:
        """The status with its details."""
        metadata = {
            name: _cut(str(value), _MAX_METADATA_BYTES)
            for name, value in (self.metadata or {}).items()
        }
        text = _cut(self.details, _MAX_MESSAGE_BYTES)
        details: list[Message] = []
        if self.field is not None:
            bad_request = error_details_pb2.BadRequest()
            bad_request.field_violations.add(field=self.field, description=text)
            details.append(bad_request)
        details.append(_info(self.reason, metadata))
        if self.retry_seconds is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        return _status(self.code, text, details)


def malformed(problem: str) -> Refusal:
    """The refusal of bytes that are not a valid message."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED", f"the request is wrong: {problem}"
    )


def above_limit(
    limits: Limits,
    name: str,
    details: str,
    field: str | None = None,
    *,
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
    retry_seconds: float | None = None,
) -> Refusal:
    """The refusal of a request that is above a limit.

    Args:
        limits: the limits of the server.
        name: the limit's name; in capitals it is the reason.
        details: a sentence with the limit's value.
        field: the field of the request that is too large.
        code: the status code.
        retry_seconds: when to retry, if that may help.
    """
    limit = getattr(limits, name)
    return Refusal(code, name.upper(), details, {"limit": limit}, field, retry_seconds)


@contextmanager
def answered(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with the status of the exception that the body raises."""
    try:
        yield
    except PlanError as error:
        _abort(context, plan_status(error))
    except Refusal as refusal:
        _abort(context, refusal.status())
    except CheckpointError as error:
        reason = "CHECKPOINT_CHANGED"
        changed = Refusal(grpc.StatusCode.FAILED_PRECONDITION, reason, str(error))
        _abort(context, changed.status())
    except LeftError:
        # The call is over, so no client receives this; it only ends the method.
        context.abort(grpc.StatusCode.CANCELLED, "the call was cancelled")
    except Exception:
        reference = secrets.token_hex(4)
        _LOG.exception("internal error %s", reference)
        text = f"internal error; the server's log has the details under {reference}"
        info = _info("INTERNAL", {"reference": reference})
        _abort(context, _status(grpc.StatusCode.INTERNAL, text, [info]))


def plan_status(error: PlanError) -> status_pb2.Status:
    """INVALID_ARGUMENT with a google.rpc.BadRequest that lists the violations."""
    bad_request = error_details_pb2.BadRequest()
    room = _MAX_DETAIL_BYTES
    for violation in error.violations[:MAX_VIOLATIONS]:
        field, description = _cut(violation.path, 300), _cut(str(violation), 900)
        room -= len(field.encode()) + len(description.encode())
        if room < 0 and bad_request.field_violations:
            break
        bad_request.field_violations.add(field=field, description=description)
    shown = len(bad_request.field_violations)
    hidden = len(error.violations) - shown
    if hidden:
        rest = Violation("", "tensors", f"{hidden} more violations are not shown")
        bad_request.field_violations.add(field=rest.path, description=str(rest))
    details = [bad_request, _info("PLAN_INVALID", {"version": __version__})]
    return _status(grpc.StatusCode.INVALID_ARGUMENT, _summary(error), details)


def _info(reason: str, metadata: Mapping[str, str]) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _status(code: grpc.StatusCode, text: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=text)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _abort(context: grpc.ServicerContext, status: status_pb2.Status) -> None:
    context.abort_with_status(rpc_status.to_status(status))


def _summary(error: PlanError) -> str:
    """The count and as many violations as fit, for clients that read no details."""
    count = len(error.violations)
    text = "the plan is wrong: " if count == 1 else f"the plan has {count} violations: "
    return _cut(text + "; ".join(str(v) for v in error.violations[:3]), _MAX_MESSAGE_BYTES)


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, with an ellipsis if the text is cut."""
    # A name in Python may hold lone surrogates, which UTF-8 has no bytes for.
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "..."
