"""Answers over HTTP: statuses and errors with the headers that clients of the Hub look for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from initcore import PlanError

from initserver.wire import Refusal

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
BYTES = "application/octet-stream"

REPOSITORY, REVISION, ENTRY = "RepoNotFound", "RevisionNotFound", "EntryNotFound"
"""Values of X-Error-Code: clients raise different errors for them, and take a missing entry as
a file that the model does not have."""

_STATUS_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}

_CODE_OF = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    416: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

_MOST_MESSAGE = 1000


@dataclass(eq=False)
class HubError(Exception):
    """Ends a request with an error.

    Attributes:
        status: the status.
        message: a sentence.
        code: the value of X-Error-Code, "" for none.
        headers: further headers.
    """

    status: int
    message: str
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A short answer.

    Attributes:
        status: the status.
        body: the body.
        content_type: its type.
        headers: further headers.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, form: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer that holds plain values."""
        return cls(body=json.dumps(form).encode(), headers=headers or {})


def error_answer(error: HubError) -> Answer:
    """The answer of an error: its sentence as JSON, and in X-Error-Message."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in error.message[:_MOST_MESSAGE])
    headers = {"X-Error-Message": shown, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return Answer(error.status, json.dumps({"error": error.message}).encode(), headers=headers)


def error_of(error: Exception) -> HubError | None:
    """The error that a refusal of other rooms is over HTTP; None for unexpected exceptions."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, PlanError):
        return HubError(400, str(error))
    if isinstance(error, Refusal):
        headers = {}
        if error.retry_seconds is not None:
            headers["Retry-After"] = str(max(1, round(error.retry_seconds)))
        code = REPOSITORY if error.reason == "MODEL_UNKNOWN" else ""
        return HubError(_STATUS_OF.get(error.code, 500), error.details, code, headers)
    return None


def code_of(status: int) -> grpc.StatusCode:
    """The status code under which logs and metrics count an answer."""
    if status < 400:
        return grpc.StatusCode.OK
    return _CODE_OF.get(status, grpc.StatusCode.INTERNAL)
