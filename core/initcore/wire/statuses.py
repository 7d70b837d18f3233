"""Statuses: every gRPC status code and every reason of a refusal, with the client's next step.

The server takes the codes of its refusals from here, the client its next step, and the tables of
docs/service.md and docs/client.md are these tables. Names are strings, so that no gRPC is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """The next step of a client after a failed call. The value is its text in the docs."""

    AGAIN = "calls again, another server first"
    WAIT = "waits, then calls again"
    TWICE = "calls that server once more, then only the others"
    OTHERS = "calls only the other servers"
    FINAL = "gives up on this call"


@dataclass(frozen=True)
class Status:
    """A status code, alone or with a reason.

    Attributes:
        code: the name of the gRPC status.
        step: the client's next step, if the server names no time for it.
        error: the client's error if no further call is possible, by the name of its class.
        reason: the reason of the google.rpc.ErrorInfo; "" for every other reason, and for none.
            "MAX_*" is any limit.
        metadata: keys of the ErrorInfo's metadata.
        details: further details, for people.
        waits: whether a time to retry makes the answer a busy one, which is no failure.
    """

    code: str
    step: Step
    error: str
    reason: str = ""
    metadata: tuple[str, ...] = ()
    details: str = ""
    waits: bool = False

    def step_after(self, pushback: float | None) -> Step:
        """The client's next step.

        Args:
            pushback: seconds before which the server asks not to be called (RetryInfo or
                grpc-retry-pushback-ms); below zero: not at all. None if it names no time.
        """
        if pushback is None or self.step is Step.FINAL:
            return self.step
        if pushback < 0:
            return Step.OTHERS
        return Step.WAIT if self.waits else self.step

    def error_after(self, pushback: float | None) -> str:
        """The name of the client's error, as `error` but for busy servers."""
        return "BusyError" if self.waits and pushback is not None else self.error


CODES = (
    Status("CANCELLED", Step.AGAIN, "TransportError"),
    Status("UNKNOWN", Step.AGAIN, "ServerError"),
    Status("INVALID_ARGUMENT", Step.OTHERS, "ServerError"),
    Status("DEADLINE_EXCEEDED", Step.AGAIN, "TransportError"),
    Status("NOT_FOUND", Step.OTHERS, "ServerError"),
    Status("ALREADY_EXISTS", Step.OTHERS, "ServerError"),
    Status("PERMISSION_DENIED", Step.OTHERS, "AuthenticationError"),
    Status("RESOURCE_EXHAUSTED", Step.OTHERS, "LimitError", waits=True),
    Status("FAILED_PRECONDITION", Step.TWICE, "IntegrityError"),
    Status("ABORTED", Step.AGAIN, "TransportError"),
    Status("OUT_OF_RANGE", Step.OTHERS, "ServerError"),
    Status("UNIMPLEMENTED", Step.OTHERS, "ServerError"),
    Status("INTERNAL", Step.AGAIN, "ServerError"),
    Status("UNAVAILABLE", Step.AGAIN, "UnavailableError"),
    Status("DATA_LOSS", Step.AGAIN, "TransportError"),
    Status("UNAUTHENTICATED", Step.OTHERS, "AuthenticationError"),
)
"""Every code but OK, in the order of gRPC's numbers, for reasons that REASONS does not have."""

REASONS = (
    Status(
        "INVALID_ARGUMENT",
        Step.OTHERS,
        "PlanError",
        "PLAN_INVALID",
        ("version",),
        "BadRequest, field by field",
    ),
    Status("INVALID_ARGUMENT", Step.OTHERS, "ServerError", "REQUEST_MALFORMED"),
    Status("INVALID_ARGUMENT", Step.OTHERS, "LimitError", "MAX_*", ("limit",), "BadRequest"),
    Status(
        "INVALID_ARGUMENT",
        Step.FINAL,
        "LimitError",
        "MAX_FINGERPRINT_BYTES",
        ("limit",),
        "BadRequest; the client asks for less at a time",
    ),
    Status(
        "OUT_OF_RANGE",
        Step.OTHERS,
        "ServerError",
        "OFFSET_OUT_OF_RANGE",
        ("read_offset", "total_size"),
    ),
    Status("NOT_FOUND", Step.OTHERS, "ServerError", "MODEL_UNKNOWN", ("model",)),
    Status(
        "FAILED_PRECONDITION",
        Step.TWICE,
        "IntegrityError",
        "MODEL_CHANGED",
        ("model", "expected_digest", "plan_digest", "seed"),
    ),
    Status("FAILED_PRECONDITION", Step.OTHERS, "ServerError", "SEED_FIXED", ("model", "seed")),
    Status("FAILED_PRECONDITION", Step.TWICE, "IntegrityError", "CHECKPOINT_CHANGED"),
    Status(
        "FAILED_PRECONDITION",
        Step.TWICE,
        "IntegrityError",
        "DIGEST_MISMATCH",
        ("expected_digest", "plan_digest", "version"),
    ),
    Status(
        "RESOURCE_EXHAUSTED",
        Step.WAIT,
        "BusyError",
        "MAX_STREAMS",
        ("limit",),
        "RetryInfo, 1 s",
        waits=True,
    ),
    Status("UNAUTHENTICATED", Step.OTHERS, "AuthenticationError", "TOKEN_MISSING"),
    Status("UNAUTHENTICATED", Step.OTHERS, "AuthenticationError", "TOKEN_UNKNOWN"),
    Status("UNAVAILABLE", Step.AGAIN, "UnavailableError", "DRAINING"),
    Status(
        "INTERNAL",
        Step.AGAIN,
        "ServerError",
        "INTERNAL",
        ("reference",),
    ),
)
"""The reasons of this service, which are never renamed."""

_BY_CODE = {status.code: status for status in CODES}
_BY_REASON = {(status.code, status.reason): status for status in REASONS}
_ANY_LIMIT = "MAX_*"


def status_of(code: str, reason: str = "") -> Status:
    """The row of a code and a reason.

    Args:
        code: the name of a gRPC status.
        reason: the reason of an ErrorInfo of this service; "" for none.
    """
    if row := _BY_REASON.get((code, reason)):
        return row
    if reason.startswith(_ANY_LIMIT[:-1]) and (row := _BY_REASON.get((code, _ANY_LIMIT))):
        return row
    # A code that is not in the table is one that a future gRPC has.
    return _BY_CODE.get(code, _BY_CODE["UNKNOWN"])
