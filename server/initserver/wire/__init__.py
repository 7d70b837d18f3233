"""Requests and responses as bytes and messages: parsing, chunk framing, refusals with details."""

from initserver.wire.encoding import OutgoingChunk, serialize_response
from initserver.wire.refusals import Refusal, above_limit, answered
from initserver.wire.requests import (
    Incoming,
    PlanBytes,
    check_header,
    read_describe,
    read_fetch,
    read_nothing,
)

__all__ = [
    "Incoming",
    "OutgoingChunk",
    "PlanBytes",
    "Refusal",
    "above_limit",
    "answered",
    "check_header",
    "read_describe",
    "read_fetch",
    "read_nothing",
    "serialize_response",
]
