"""The trace of each thread: torch's modes belong to a thread, its initializers to the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from initcore import PlanError, Violation

from initclient.torch._trace.trace import Trace

_active = threading.local()


@contextmanager
def tracing(trace: Trace, *others: Any) -> Iterator[None]:
    """Traces the body, in this thread.

    Args:
        trace: notes what happens.
        others: context managers that take part, such as the mode for what bypasses operations.

    Raises:
        PlanError: if this thread traces already; or the trace's own failure, at the end.
    """
    refuse_within()
    _active.trace = trace
    try:
        with ExitStack() as stack:
            stack.enter_context(trace)
            for other in others:
                stack.enter_context(other)
            yield
    finally:
        _active.trace = None
        trace.is_over = True
    if trace.failure is not None:
        raise trace.failure


def refuse_within() -> None:
    """Refuses to trace what this thread traces already.

    Raises:
        PlanError: if a trace is active.
    """
    if active() is not None:
        message = "a recording runs in this thread already; record one model after the other"
        raise PlanError([Violation("", "record", message)])


def active() -> Trace | None:
    """The trace of this thread; None without one, or while it is paused."""
    trace: Trace | None = getattr(_active, "trace", None)
    return None if trace is None or trace._paused else trace
