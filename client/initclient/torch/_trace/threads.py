"""Threads that traced code starts: torch's modes do not reach them, so they may change nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from initclient.torch._trace.current import active
from initclient.torch._trace.operations import changed_tensors
from initclient.torch._trace.sources import source
from initclient.torch._trace.trace import Trace

_started = threading.local()
_lock = threading.Lock()
_depth = 0
_start = threading.Thread.start


@contextmanager
def watched_threads() -> Iterator[None]:
    """What threads of the body write to traced tensors ends the recording."""
    global _depth
    with _lock:
        if _depth == 0:
            setattr(threading.Thread, "start", _watched(_start))  # noqa: B010 - mypy knows it
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                setattr(threading.Thread, "start", _start)  # noqa: B010


def refuse_elsewhere(tensor: torch.Tensor) -> None:
    """Ends the recording if the thread was started by it and changes a tensor of it."""
    trace = getattr(_started, "trace", None)
    if trace is not None and not trace.is_over and trace.memory.knows(tensor):
        # Noted and not raised: the thread's own end is not the recording's.
        trace.fail(
            f"another thread changes a tensor at {source().called}, which a recording does not "
            "follow; initialize it in the thread that builds the model"
        )


class _Elsewhere(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at the operations of a thread."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        for tensor in changed_tensors(func, args, keywords):
            refuse_elsewhere(tensor)
        return func(*args, **keywords)


def _watched(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def starting(thread: threading.Thread) -> None:
        trace = active()
        if trace is not None:
            setattr(thread, "run", _within(trace, thread.run))  # noqa: B010
        start(thread)

    return starting


def _within(trace: Trace, run: Callable[[], None]) -> Callable[[], None]:
    def running() -> None:
        _started.trace = trace
        with _Elsewhere():  # type: ignore[no-untyped-call]
            run()

    return running
