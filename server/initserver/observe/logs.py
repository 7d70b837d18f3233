"""The server's log: lines for people or JSON for machines, one line for each call."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from datetime import UTC, datetime
from typing import Any

import grpc

from initserver.rpc import Call

_LOG = logging.getLogger("initserver.calls")

DIGEST_DIGITS = 12
"""Digits of a plan's digest in a line: enough to tell plans apart, and to search for."""

# Faults of the server.
_ERRORS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
# Worth a look: an attack, or a limit that is too small.
_WARNINGS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class CallLog:
    """Writes one line for each call that has ended."""

    def started(self, call: Call) -> None:
        """Writes nothing: a call is logged when it has ended."""

    def ended(self, call: Call) -> None:
        """Writes the line: probes at DEBUG, the server's own faults at ERROR."""
        level = logging.INFO
        if call.code in _ERRORS:
            level = logging.ERROR
        elif call.code in _WARNINGS:
            level = logging.WARNING
        elif call.is_probe:
            level = logging.DEBUG
        if _LOG.isEnabledFor(level):
            _LOG.log(level, "%s", _line(call), extra={"fields": _fields(call)})


def set_up_logs(format: str, level: str, **fields: Any) -> None:
    """Sends the log of this process to standard error, unless logging is already configured.

    Python's warnings go to the log too, without the line of code that issued them.

    Args:
        format: "text" or "json".
        level: name of the least severe level that is written.
        fields: added to every JSON line, such as the worker's number.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(fields) if format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper())
    warnings.showwarning = _log_warning


def _log_warning(message: Warning | str, *rest: Any, **keywords: Any) -> None:
    logging.getLogger("initserver").warning("%s", message)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, then the fields of the record."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **self._fields,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """Time, level unless it is info, and the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; a traceback follows on lines of its own."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        # Names of tensors come from clients: none may forge a line by a line break.
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        text = f"{clock} {level}{message}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _fields(call: Call) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "method": call.method,
        "code": call.code.name,
        "peer": call.peer,
        "seconds": round(call.seconds, 6),
        "bytes": call.bytes_sent,
    }
    optional = {
        "plan": call.plan_digest[:DIGEST_DIGITS],
        "offset": call.read_offset,
        "limit": call.read_limit,
        "caller": call.caller,
        "trace_id": call.trace_id,
        "user_agent": call.user_agent,
        "reason": call.reason,
    }
    return fields | {name: value for name, value in optional.items() if value}


def _line(call: Call) -> str:
    """The call in words, the most important ones first."""
    parts = [call.method.rpartition("/")[2], call.code.name, f"{call.seconds:.3f} s"]
    if call.bytes_sent:
        parts.append(f"{call.bytes_sent} bytes")
    if call.plan_digest:
        parts.append(f"plan {call.plan_digest[:DIGEST_DIGITS]}")
    if call.read_offset or call.read_limit:
        parts.append(f"from {call.read_offset} limit {call.read_limit}")
    if call.peer:
        parts.append(call.peer)
    if call.caller:
        parts.append(f"as {call.caller}")
    return ", ".join(parts) + (f": {call.reason}" if call.reason else "")
