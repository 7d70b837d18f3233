"""OpenTelemetry: a span for each call, streams included, in the client's trace."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import grpc
from initcore import MissingPackageError

from initserver.rpc import Call

_LOG = logging.getLogger("initserver")

_WANTED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

# Codes that are the server's fault. The others are the client's, and its span shows them
# (OpenTelemetry's conventions for gRPC).
_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class Tracing:
    """Opens a span when a call begins and ends it with the call.

    Args:
        provider: where spans go; None takes the program's own provider, or makes one that
            exports over OTLP as the OTEL_* variables say.

    Raises:
        MissingPackageError: if a package of initserve[otel] is not installed.
    """

    def __init__(self, provider: Any = None) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError as error:
            raise _missing("opentelemetry-api") from error
        self._trace, self._propagate = trace, propagate
        self._owned: Any = None
        if provider is None:
            provider = trace.get_tracer_provider()
            if isinstance(provider, trace.ProxyTracerProvider):
                provider = self._owned = _exporting()
        self._tracer = provider.get_tracer("initserver")
        self._spans: WeakKeyDictionary[Call, Any] = WeakKeyDictionary()

    def started(self, call: Call) -> None:
        """Opens the call's span, as a child of the client's if it sent one."""
        if call.is_probe:
            return
        sent = {name: value for name, value in call.metadata if isinstance(value, str)}
        service, _, method = call.method.partition("/")
        span = self._tracer.start_span(
            call.method,
            context=self._propagate.extract(sent),
            kind=self._trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        context = span.get_span_context()
        if context.is_valid:
            call.trace_id = self._trace.format_trace_id(context.trace_id)
        self._spans[call] = span

    def ended(self, call: Call) -> None:
        """Ends the call's span, with its status and attributes."""
        span = self._spans.pop(call, None)
        if span is None:
            return
        span.set_attribute("rpc.grpc.status_code", call.code.value[0])
        span.set_attribute("initserve.bytes_sent", call.bytes_sent)
        for name, value in (
            ("client.address", call.peer),
            ("initserve.plan_digest", call.plan_digest),
            ("initserve.read_offset", call.read_offset),
        ):
            if value:
                span.set_attribute(name, value)
        if call.code in _ERRORS:
            span.set_status(self._trace.StatusCode.ERROR, call.reason)
        span.end()

    def close(self, seconds: float = 10.0) -> None:
        """Exports the remaining spans, as many as that time allows."""
        if self._owned is not None:
            # The exporter's own patience with a collector is ten seconds and more.
            closing = threading.Thread(target=self._owned.shutdown, daemon=True)
            closing.start()
            closing.join(seconds)


def tracing_if_wanted(trace: bool, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Tracing if the flag or OpenTelemetry's own variables turn it on, else None.

    The variables are often set for a whole cluster, so where they alone turn it on, a missing
    package or a wrong value is a warning.

    Raises:
        MissingPackageError: if the flag turns it on and a package is missing.
        ValueError: if the flag turns it on and one of the variables is wrong.
    """
    if trace:
        with _named(environment):
            return Tracing()
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(
        environment.get(name) for name in _WANTED_BY
    ):
        return None
    try:
        with _named(environment):
            return Tracing()
    except (MissingPackageError, ValueError) as error:
        _LOG.warning("no tracing, though OTEL_* variables ask for it: %s", error)
        return None


@contextmanager
def _named(environment: Mapping[str, str]) -> Iterator[None]:
    """Says for each complaint of OpenTelemetry which variable it is about, in one sentence."""
    logger, records = logging.getLogger("opentelemetry"), _Records()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(records)
    try:
        yield
    except MissingPackageError:
        raise
    except Exception as error:
        # Its packages raise whatever their parsing does: ValueError, KeyError, StopIteration.
        said = [str(error) or type(error).__name__, *records.messages]
        raise ValueError(f"{_variables(environment, said)}: {'; '.join(said)}") from error
    else:
        for message in records.messages:
            _LOG.warning("%s: %s", _variables(environment, [message]), message)
    finally:
        logger.removeHandler(records)
        logger.propagate = before


class _Records(logging.Handler):
    """Keeps the messages of warnings and errors, without their tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message."""
        self.messages.append(record.getMessage())


def _variables(environment: Mapping[str, str], messages: Sequence[str]) -> str:
    """The OTEL_* variables that a message names or quotes; all that are set, if none does."""
    known = {name: value for name, value in environment.items() if name.startswith("OTEL_")}
    text = " ".join(messages)
    named = [name for name in known if name in text] or [
        name for name, value in known.items() if value and value in text
    ]
    return ", ".join(f"{name} is {known[name]!r}" for name in named or known)


def _exporting() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _missing("the OpenTelemetry SDK with its OTLP exporter") from error
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    provider = TracerProvider(
        resource=Resource.create({} if named else {"service.name": "initserver"})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _missing(package: str) -> MissingPackageError:
    return MissingPackageError(package, "otel", "tracing")
