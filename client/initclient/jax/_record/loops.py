"""Loops: programs within a program that run many times, or one of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from initclient._laws import NotUnderstoodError
from initclient.jax._record.pieces import cut, joined, reshaped, whole
from initclient.jax._trace import (
    Known,
    Liveness,
    Random,
    Unknown,
    Value,
    is_key,
    single,
    single_of_all,
    unread,
)

Run: TypeAlias = Callable[[Any, Sequence[Value], Sequence[bool]], list[Value]]
"""From a program, its inputs, and which results are wanted, to the results."""


def scan(
    run: Run, live: Liveness, equation: Any, operands: Sequence[Value], wanted: Sequence[bool]
) -> list[Value]:
    """The results of a scan, step by step."""
    params = equation.params
    body, length = params["jaxpr"], int(params["length"])
    constants, carries = params["num_consts"], params["num_carry"]
    fixed = list(operands[:constants])
    carry = list(operands[constants : constants + carries])
    rows = operands[constants + carries :]
    mask = live.carried(params, wanted)
    read = live.needed(body.jaxpr, mask)[1][constants + carries :]
    stacked: list[list[Value]] = [[] for _ in equation.outvars[carries:]]
    for step in range(length)[::-1] if params["reverse"] else range(length):
        now = [_row(one, step) if is_read else one for one, is_read in zip(rows, read, strict=True)]
        found = run(body, [*fixed, *carry, *now], mask)
        carry = found[:carries]
        for column, one in zip(stacked, found[carries:], strict=True):
            column.append(one)
    made: list[Value] = list(carry)
    for column, variable, is_live in zip(
        stacked, equation.outvars[carries:], mask[carries:], strict=True
    ):
        column = column[::-1] if params["reverse"] else column
        made.append(_stacked(column, variable.aval) if is_live else unread(variable))
    return made


def repeat(
    run: Run, live: Liveness, equation: Any, operands: Sequence[Value], wanted: Sequence[bool]
) -> list[Value]:
    """The results of a while loop, step by step.

    Raises:
        NotUnderstoodError: if draws or keys decide when it ends.
    """
    params = equation.params
    of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
    tested = list(operands[:of_test])
    fixed = list(operands[of_test : of_test + of_body])
    carry = list(operands[of_test + of_body :])
    everything = [True] * len(carry)
    while True:
        (goes_on,) = run(params["cond_jaxpr"], [*tested, *carry], [True])
        decided = single(goes_on)
        if decided is None:
            raise NotUnderstoodError("draws or keys decide how often it is repeated", None)
        if not decided:
            return carry
        carry = run(params["body_jaxpr"], [*fixed, *carry], everything)


def choose(
    run: Run, live: Liveness, equation: Any, operands: Sequence[Value], wanted: Sequence[bool]
) -> list[Value]:
    """The results of the branch that a known number names.

    Raises:
        NotUnderstoodError: if draws or keys decide which one.
    """
    which = single(operands[0])
    if which is None:
        raise NotUnderstoodError("draws or keys decide which branch it takes", None)
    branches = equation.params["branches"]
    return run(branches[min(max(int(which), 0), len(branches) - 1)], operands[1:], wanted)


def platform(equation: Any) -> Known:
    """The branch of a CPU, of branches for several platforms."""
    platforms = equation.params["platforms"]
    found = [i for i, names in enumerate(platforms) if names is not None and "cpu" in names]
    found += [i for i, names in enumerate(platforms) if names is None]
    return Known(np.asarray(found[0], dtype=np.int32))


def _row(value: Value, step: int) -> Value:
    """One row of what a loop runs over."""
    if isinstance(value, Known):
        return Known(value.array[step], value.from_key)
    shape = value.shape[1:]
    if isinstance(value, Unknown):
        return replace(value, shape=shape)
    first = (0, 1) if 0 in value.repeated else (step, step + 1)
    patches = tuple(cut(value.patches, (first, *whole(value.part[1:]))))
    one = replace(value, shape=(1, *shape), patches=patches, repeated=value.repeated - {0})
    return reshaped(one, shape)


def _stacked(column: Sequence[Value], aval: Any) -> Value:
    """The results of the steps of a loop, as rows."""
    shape = tuple(aval.shape)
    for one in column:
        if isinstance(one, Unknown):
            return replace(one, shape=shape)
    read = [one for one in column if isinstance(one, Known | Random)]
    known = [one for one in read if isinstance(one, Known)]
    if len(known) == len(column):
        return _stacked_known(known, shape, aval.dtype)
    parts = [
        reshaped(one, (1, *one.shape))
        if isinstance(one, Random)
        else Known(np.asarray(one.array)[None], one.from_key)
        for one in read
    ]
    return joined(parts, 0, shape, np.dtype(aval.dtype))


def _stacked_known(column: Sequence[Known], shape: tuple[int, ...], dtype: Any) -> Known:
    arrays = [one.array for one in column]
    from_key = any(one.from_key for one in column)
    if is_key(dtype):
        return Known(jnp.stack(arrays) if arrays else jnp.zeros(shape, dtype), True)
    if not arrays:
        return Known(np.zeros(shape, dtype), from_key)
    element = single_of_all(column)
    if element is not None:
        return Known(np.broadcast_to(np.asarray(element), shape), from_key)
    return Known(np.stack(arrays), from_key)
