"""Initializers: torch.nn.init's functions that are laws as a whole, seen however they are called.

A model may hold a reference to one of them, as `from torch.nn.init import trunc_normal_` gives.
Their code is replaced while a thread traces, so every reference leads here; other threads go on
to torch's code. The replacement is global to the process: a lock guards it, and it is undone when
the last trace ends, also after an error.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from initclient._laws import Constant, Dirac, Eye, Law, Orthogonal, Sparse, Truncated
from initclient.torch._trace.current import active
from initclient.torch._trace.generator import is_own
from initclient.torch._trace.threads import refuse_elsewhere
from initclient.torch._trace.trace import Trace

_HOOK = "__initserve_initializers__"


@contextmanager
def watched_initializers() -> Iterator[None]:
    """Calls of these functions in a thread that traces are noted as laws."""
    global _depth
    with _lock:
        if _depth == 0:
            for one in _FUNCTIONS:
                one.replace()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                for one in _FUNCTIONS:
                    one.restore()


@dataclass
class _Function:
    """One function of torch.nn.init.

    Attributes:
        name: its name there.
        law: its law, from the arguments by name.
    """

    name: str
    law: Callable[[dict[str, Any]], Law]

    def __post_init__(self) -> None:
        # Below decorators, of which callers may hold any.
        self._function: FunctionType = inspect.unwrap(getattr(nn.init, self.name))
        self._saved: CodeType | None = None
        self._original: Callable[..., Any] = self._function
        self._signature = inspect.signature(self._function)

    def replace(self) -> None:
        """Puts the hook into the function."""
        function = self._function
        self._saved = function.__code__
        copy = FunctionType(
            function.__code__, function.__globals__, self.name, function.__defaults__
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        self._original = copy
        function.__globals__.setdefault(_HOOK, {})[self.name] = self._call
        stub = f"def stub(*args, **kwargs):\n return {_HOOK}[{self.name!r}](args, kwargs)"
        scope: dict[str, Any] = {}
        exec(compile(stub, nn.init.__file__, "exec"), scope)
        function.__code__ = scope["stub"].__code__.replace(co_name=self.name)

    def restore(self) -> None:
        """Puts torch's code back."""
        if self._saved is not None:
            self._function.__code__ = self._saved
            self._saved = None

    def _call(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        trace = active()
        bound = self._signature.bind(*args, **keywords)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        tensor = arguments.pop("tensor")
        if trace is None and isinstance(tensor, torch.Tensor):
            # Some of them do nothing on meta.
            refuse_elsewhere(tensor)
        if trace is None or not isinstance(tensor, torch.Tensor):
            return self._original(*args, **keywords)
        _note(trace, self._original, tensor, self.law(arguments), arguments)
        return tensor


def _note(
    trace: Trace,
    original: Callable[..., Any],
    tensor: torch.Tensor,
    law: Law,
    arguments: dict[str, Any],
) -> None:
    own = arguments.pop("generator", None)

    def again(blank: torch.Tensor) -> Any:
        with torch.no_grad():
            return original(blank, **arguments)

    generator = {"generator": own} if is_own(own) else {}
    with trace.paused(), torch.no_grad():
        trace.generator.begin()
        real = tensor.detach()
        if not trace.on_meta:
            trace.memory.before_change(tensor)
            original(real, **arguments, **generator)
            trace.memory.after_change(tensor)
        elif isinstance(law, Truncated | Constant):
            # One element, for torch's own errors and warnings.
            one = torch.empty(1, dtype=tensor.dtype, device="cpu")
            original(one, **arguments, generator=torch.Generator())
        else:
            # Likewise: wrong shapes are refused on meta too.
            original(torch.empty_like(real, device="meta"), **arguments)
        trace.draw(tensor, law, again, own_generator=is_own(own))


def _truncated(arguments: dict[str, Any]) -> Law:
    mean, std, a, b = (float(arguments[name]) for name in ("mean", "std", "a", "b"))
    return Truncated(mean, std, a, b) if std else Constant(min(max(mean, a), b))


_FUNCTIONS = (
    _Function("_no_grad_trunc_normal_", _truncated),
    _Function("orthogonal_", lambda given: Orthogonal(float(given["gain"]))),
    _Function("sparse_", lambda given: Sparse(float(given["sparsity"]), float(given["std"]))),
    _Function("eye_", lambda given: Eye()),
    _Function("dirac_", lambda given: Dirac(int(given["groups"]))),
)

_lock = threading.Lock()
_depth = 0
