"""Caches of the traced code: values of one trace that the code keeps and hands to another trace."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from initcore import PlanError, Violation

from initclient._laws import Line
from initclient.jax._trace.sources import is_of_user, source_of


def refuse_kept(program: Any) -> None:
    """Refuses a program that has a value of an earlier trace among its constants.

    Args:
        program: a closed jaxpr.

    Raises:
        PlanError: naming the line that made the value.
    """
    seen: set[int] = set()
    left = [program]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for constant in getattr(one, "consts", ()):
            if isinstance(constant, jax.core.Tracer):
                source = source_of(getattr(constant, "_line_info", None))
                raise _kept(None if source is None else source.called)
        for equation in getattr(one, "jaxpr", one).eqns:
            left += _programs(equation.params)


@contextmanager
def kept_refused() -> Iterator[None]:
    """Turns JAX's error for a value of an earlier trace into one with the line and the remedy."""
    try:
        yield
    except jax.errors.UnexpectedTracerError as error:
        raise _kept(_last_line(error)) from error


def _kept(line: Line | None) -> PlanError:
    place = "" if line is None else f", at {line},"
    message = (
        f"the code keeps a value of an earlier trace{place} and uses it again (a cache); it is no "
        "value any more once that trace has ended, for later calls too. Clear that cache, and then "
        "call that code once before you record, outside of every trace; or clear the cache at the "
        "start of the code that you record, and after recording"
    )
    return PlanError([Violation("", "record", message)])


def _programs(params: Any) -> list[Any]:
    found = []
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(one, "jaxpr", one), "eqns"):
                found.append(one)
    return found


def _last_line(error: BaseException) -> Line | None:
    """The innermost line of the user's code in an error's traceback."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if is_of_user(one.filename)]
    if not frames:
        return None
    last = frames[-1]
    return Line.of(last.filename, last.lineno or 0, last.name)
