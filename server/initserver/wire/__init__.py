"""Requests and responses on the wire: parsing, chunks as bytes, refusals with details.

The answers are made in `initserver.rpc`.
"""

from initserver.wire.encoding import OutgoingChunk, Write, serialize_response
from initserver.wire.refusals import Refusal, above_limit, answered
from initserver.wire.requests import (
    Incoming,
    PlanBytes,
    check_header,
    read_describe,
    read_fetch,
    read_get_model,
    read_nothing,
)

__all__ = [
    "Incoming",
    "OutgoingChunk",
    "PlanBytes",
    "Refusal",
    "Write",
    "above_limit",
    "answered",
    "check_header",
    "read_describe",
    "read_fetch",
    "read_get_model",
    "read_nothing",
    "serialize_response",
]
