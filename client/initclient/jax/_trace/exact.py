"""Exact numbers: the doubles that stock initializers hold, of which a trace shows float32.

While a model is traced, jax.random's functions note the numbers of the initializer that calls
them as a name scope of what they draw. A note is only used where it agrees with the trace.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from threading import RLock
from types import FrameType
from typing import Any

import jax
import jax.random
import numpy as np
from initcore.resolve import TRUNCATED_STD

from initclient._laws import Law, Normal, Orthogonal, Truncated, Uniform

_KINDS: dict[str, type[Law]] = {
    kind.__name__: kind for kind in (Normal, Orthogonal, Truncated, Uniform)
}
_NOTE = re.compile(r"initserve\[(\w+)((?:,[^,\]]+)*)\]")

# Rounding to an element type, some steps of it one after the other.
_STEPS = 8

_lock = RLock()


@contextmanager
def numbers_noted() -> Iterator[None]:
    """Notes the numbers of initializers in what is traced. Other threads that record wait."""
    import importlib

    with _lock:
        places: list[tuple[Any, str, Any]] = []
        try:
            # The modules that jax and its initializers take them from; a release that has others
            # gives rounded numbers.
            for module in ("jax.random", "jax._src.random"):
                try:
                    owner = importlib.import_module(module)
                except ImportError:
                    continue
                for name in ("normal", "truncated_normal", "uniform", "orthogonal"):
                    original = getattr(owner, name, None)
                    if original is not None:
                        places.append((owner, name, original))
                        setattr(owner, name, _noting(original))
            yield
        finally:
            for owner, name, original in places:
                setattr(owner, name, original)


def noted(scope: str) -> Law | None:
    """The law that a name scope notes; None without one."""
    found = _NOTE.search(scope)
    if found is None:
        return None
    numbers = [float.fromhex(text) for text in found[2].split(",")[1:]]
    return _KINDS[found[1]](*numbers)


def agree(traced: Law, exact: Law, dtype: Any) -> bool:
    """Whether two laws are one, but for the rounding of an element type."""
    if type(traced) is not type(exact):
        return False
    step = _STEPS * float(jax.numpy.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    if isinstance(traced, Normal) and isinstance(exact, Normal):
        pairs = [(traced.mean, exact.mean), (traced.std, exact.std)]
        return _are_close(pairs, step, exact.std)
    if isinstance(traced, Uniform) and isinstance(exact, Uniform):
        return _are_close(
            [(traced.a, exact.a), (traced.b, exact.b)], step, max(abs(exact.a), abs(exact.b))
        )
    if isinstance(traced, Orthogonal) and isinstance(exact, Orthogonal):
        return _are_close([(traced.gain, exact.gain)], step, abs(exact.gain))
    if isinstance(traced, Truncated) and isinstance(exact, Truncated):
        pairs = [(traced.mean, exact.mean), (traced.std, exact.std)]
        ends = [(traced.a, exact.a), (traced.b, exact.b)]
        # Where a bound is far out, its rounded place moves, and next to no mass with it.
        mass = [(_mass(traced, one), _mass(exact, other)) for one, other in ends]
        return _are_close(pairs, step, exact.std) and _are_close(mass, step, 1.0)
    return False


def exactly(traced: Law, exact: Law) -> Law:
    """The exact law, with what the trace says besides of a uniform draw's element type."""
    if not (isinstance(traced, Uniform) and isinstance(exact, Uniform)):
        return exact
    return replace(
        exact, once_in=traced.once_in, gaps=traced.gaps, is_open_below=traced.is_open_below
    )


def _are_close(pairs: list[tuple[float, float]], step: float, scale: float) -> bool:
    return all(a == b or abs(a - b) <= step * scale for a, b in pairs)


def _mass(law: Truncated, place: float) -> float:
    if law.std == 0:
        return place
    return 0.5 * math.erfc((law.mean - place) / (law.std * math.sqrt(2.0)))


def _noting(function: Callable[..., Any]) -> Callable[..., Any]:
    def noting(*args: Any, **keywords: Any) -> Any:
        law = _of_frame(sys._getframe(1)) or _of_arguments(function, args, keywords)
        if law is None:
            return function(*args, **keywords)
        numbers = [getattr(law, one.name) for one in fields(law) if one.compare]
        text = ",".join([type(law).__name__, *(number.hex() for number in numbers)])
        with jax.named_scope(f"initserve[{text}]"):
            return function(*args, **keywords)

    noting.__name__, noting.__doc__ = function.__name__, function.__doc__
    noting.__wrapped__ = function  # type: ignore[attr-defined]
    return noting


def _of_frame(frame: FrameType) -> Law | None:
    """The law of the stock initializer that a frame runs; None for other code."""
    code, known = frame.f_code, frame.f_locals
    if code.co_filename.endswith("jax/_src/nn/initializers.py"):
        find = _STOCK.get(code.co_qualname.partition(".")[0])
    elif code.co_filename.endswith("haiku/_src/initializers.py"):
        find = _HAIKU.get(code.co_qualname)
    else:
        return None
    try:
        return None if find is None else find(known)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        # Another release has other names: the trace has rounded numbers.
        return None


def _of_arguments(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Law | None:
    """The law of a call of `uniform` with bounds in Python's doubles."""
    if function.__name__ != "uniform":
        return None
    low = keywords.get("minval", args[3] if len(args) > 3 else 0.0)
    high = keywords.get("maxval", args[4] if len(args) > 4 else 1.0)
    if isinstance(low, int | float) and isinstance(high, int | float) and low < high:
        return Uniform(float(low), float(high))
    return None


def _scaled_variance(known: dict[str, Any]) -> Law | None:
    variance = float(known["scale"]) / float(known["denominator"])
    if known["distribution"] == "truncated_normal":
        std = math.sqrt(variance) / TRUNCATED_STD
        return Truncated(0.0, std, -2 * std, 2 * std)
    if known["distribution"] == "normal":
        return Normal(0.0, math.sqrt(variance))
    bound = math.sqrt(3 * variance)
    return Uniform(-bound, bound)


def _truncated(known: dict[str, Any]) -> Law:
    std, low, high = (_double(known[name]) for name in ("stddev", "lower", "upper"))
    return Truncated(0.0, std, low * std, high * std)


def _haiku_truncated(known: dict[str, Any]) -> Law:
    self = known["self"]
    std, mean = _double(self.stddev), _double(self.mean)
    low, high = _double(self.lower), _double(self.upper)
    return Truncated(mean, std, mean + low * std, mean + high * std)


def _haiku_normal(known: dict[str, Any]) -> Law:
    return Normal(_double(known["self"].mean), _double(known["self"].stddev))


def _double(value: Any) -> float:
    if not isinstance(value, int | float | np.generic):
        raise TypeError("traced or an array")
    return float(value)


_STOCK: dict[str, Callable[[dict[str, Any]], Law | None]] = {
    "variance_scaling": _scaled_variance,
    "truncated_normal": _truncated,
    "normal": lambda known: Normal(0.0, _double(known["stddev"])),
    "uniform": lambda known: Uniform(0.0, _double(known["scale"])),
    "orthogonal": lambda known: Orthogonal(abs(_double(known["scale"]))),
}
_HAIKU: dict[str, Callable[[dict[str, Any]], Law | None]] = {
    "TruncatedNormal.__call__": _haiku_truncated,
    "RandomNormal.__call__": _haiku_normal,
}
