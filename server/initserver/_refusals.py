"""From an exception to the status that a client sees.

Wrong plans are answered with what is wrong, field by field; anything unexpected is
logged here in full and leaves the server as one sentence without a trace.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from initcore import PlanError, Violation

_LOG = logging.getLogger("initserver")

MAX_VIOLATIONS = 20
"""Violations shown; a plan of a thousand layers can have the same mistake in each."""

# gRPC clients refuse more than 8 KiB of metadata in all. The status is in there twice, as
# text (percent-encoded, up to three bytes for one) and as base64.
_MAX_MESSAGE_BYTES = 700
_MAX_DETAIL_BYTES = 2800


class Refusal(Exception):  # noqa: N818 - an answer, not an error of this program
    """A request that is answered with a status code and a sentence."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@contextmanager
def answered(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with the right status if the body raises."""
    try:
        yield
    except PlanError as error:
        context.abort_with_status(rpc_status.to_status(plan_status(error)))
    except Refusal as refusal:
        context.abort(refusal.code, refusal.details)
    except Exception:
        reference = secrets.token_hex(4)
        _LOG.exception("internal error %s", reference)
        context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error; the server's log has the details under {reference}",
        )


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
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=_summary(error))
    status.details.add().Pack(bad_request)
    return status


def _summary(error: PlanError) -> str:
    """The count and as many violations as fit, for clients that read no details."""
    count = len(error.violations)
    text = "the plan is wrong: " if count == 1 else f"the plan has {count} violations: "
    return _cut(text + "; ".join(str(v) for v in error.violations[:3]), _MAX_MESSAGE_BYTES)


def _cut(text: str, limit: int) -> str:
    """At most limit bytes of UTF-8, with an ellipsis where something was cut."""
    # Names come from Python too, where text may hold what UTF-8 cannot.
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "..."
