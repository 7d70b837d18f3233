"""Interpreter: follows a traced program operation by operation, with laws in place of draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.extend import core

from initclient._laws import Law, NotUnderstoodError, Source
from initclient.jax._record.arithmetic import ELEMENTWISE, elementwise
from initclient.jax._record.drawing import Draws, as_promised, promised
from initclient.jax._record.loops import Run, choose, platform, repeat, scan
from initclient.jax._record.matrices import decomposed, oriented, signs
from initclient.jax._record.movement import MOVES, SAME, move
from initclient.jax._record.windows import ARITHMETIC, changed_window, split
from initclient.jax._trace import (
    Known,
    Liveness,
    Random,
    Unknown,
    Value,
    called_with_constants,
    evaluate,
    is_key,
    is_of_jax,
    known,
    noted,
    source_of,
    unread,
)

# Operations that are followed one by one, those of loops each time.
_MOST_STEPS = 3_000_000

_OTHER_DRAWS = {"random_gamma", "rng_bit_generator", "rng_uniform"}
_DRAWING = {"random_bits", *_OTHER_DRAWS}

_Flow = Callable[[Run, Liveness, Any, Sequence[Value], Sequence[bool]], list[Value]]
_FLOW: dict[str, _Flow] = {"cond": choose, "scan": scan, "while": repeat}


@dataclass(frozen=True)
class _Site:
    """Where an operation stands.

    Attributes:
        info: what JAX knows of the call around it, if this is of a function of JAX's own.
        note: the exact law of the initializer around it.
    """

    info: Any = None
    note: Law | None = None


class Interpreter:
    """Follows a traced program."""

    def __init__(self) -> None:
        self._draws = Draws()
        self._live = Liveness()
        # Programs and tracebacks are kept with what is known of them, so that none gets the id
        # of another.
        self._drawing: dict[int, tuple[Any, bool]] = {}
        self._sources: dict[int, tuple[Any, Source | None]] = {}
        self._steps = 0

    def results(self, closed: Any) -> list[Value]:
        """The results of a program without inputs."""
        return self._run(closed, [], [True] * len(closed.jaxpr.outvars), _Site())

    def _run(
        self, program: Any, inputs: Sequence[Value], wanted: Sequence[bool], site: _Site
    ) -> list[Value]:
        self._count_step()
        # Some operations hold a program without constants.
        jaxpr, consts = getattr(program, "jaxpr", program), getattr(program, "consts", ())
        values: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        values |= {v: _constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(variable: Any) -> Value:
            if isinstance(variable, core.Literal):
                aval: Any = variable.aval
                return Known(np.asarray(variable.val, dtype=aval.dtype))
            return values[variable] if variable in values else unread(variable)

        for equation in self._live.needed(jaxpr, wanted)[0]:
            operands = [read(one) for one in equation.invars]
            # Not all releases export the class.
            mask = [type(v).__name__ != "DropVar" for v in equation.outvars]
            found = self._followed(equation, operands, mask, site)
            values.update(zip(equation.outvars, found, strict=True))
        return [read(one) for one in jaxpr.outvars]

    def _followed(
        self, equation: Any, operands: Sequence[Value], wanted: Sequence[bool], site: _Site
    ) -> list[Value]:
        try:
            self._count_step()
            found = self._results(equation, operands, wanted, site)
            return [self._draws.exact(one) for one in found]
        except NotUnderstoodError as error:
            source = self._source(equation, site)
            made = equation.primitive.name
            return [
                Unknown(tuple(v.aval.shape), v.aval.dtype, str(error), made, source)
                for v in equation.outvars
            ]

    def _results(
        self, equation: Any, operands: Sequence[Value], wanted: Sequence[bool], site: _Site
    ) -> Sequence[Value]:
        name = equation.primitive.name
        if name in SAME:
            return operands[: len(equation.outvars)]
        fixed = [one for one in operands if isinstance(one, Known)]
        if len(fixed) == len(operands) and not self._has_draws(equation):
            computed = known(equation, fixed)
            if computed is not None:
                info = equation.source_info if site.info is None else site.info
                return [
                    one if one.info is not None else replace(one, info=info) for one in computed
                ]
        if name == "random_bits":
            note = site.note or noted(str(equation.source_info.name_stack))
            source = self._source(equation, site)
            return [self._draws.drawn(equation, operands[0], note, source)]
        if name == "platform_index":
            return [platform(equation)]
        program = called_with_constants(equation)
        if program is not None:
            return self._called(equation, program, operands, wanted, site)
        if name in _FLOW:
            run: Run = lambda program, inputs, mask: self._run(program, inputs, mask, site)  # noqa: E731
            return _FLOW[name](run, self._live, equation, operands, wanted)
        for one in operands:
            if isinstance(one, Unknown):
                return [
                    replace(one, shape=tuple(v.aval.shape), dtype=v.aval.dtype)
                    for v in equation.outvars
                ]
        if name in _OTHER_DRAWS:
            raise NotUnderstoodError("no plan has its distribution of draws", None)
        read = [one for one in operands if isinstance(one, Known | Random)]
        return self._of_draws(equation, read, site)

    def _of_draws(
        self, equation: Any, operands: Sequence[Known | Random], site: _Site
    ) -> Sequence[Value]:
        """The results of an operation in which draws take part."""
        name = equation.primitive.name
        drawn = [one for one in operands if isinstance(one, Random)]
        if not drawn:
            raise NotUnderstoodError("it is computed, and too large to look at", None)
        if name == "qr":
            return decomposed(drawn[0], equation.params)
        if name == "sign":
            return [signs(drawn[0])]
        if name == "mul" and len(drawn) == 2 and (made := oriented(drawn)) is not None:
            return [made]
        if name in ELEMENTWISE:
            source = None if site.info is not None else self._source(equation, site)
            return [elementwise(equation, operands, source)]
        if name in MOVES:
            return [move(equation, operands, evaluate)]
        if name in ARITHMETIC:
            return [changed_window(equation, operands, self._source(equation, site))]
        if name == "split":
            return split(equation, operands[0])
        raise NotUnderstoodError("no law of draws is known through this operation", None)

    def _called(
        self,
        equation: Any,
        program: Any,
        operands: Sequence[Value],
        wanted: Sequence[bool],
        site: _Site,
    ) -> list[Value]:
        note = site.note or noted(str(equation.source_info.name_stack))
        info = site.info
        if info is None and is_of_jax(getattr(program, "jaxpr", program)):
            info = equation.source_info
        found = self._run(program, operands, wanted, _Site(info, note))
        law = promised(str(equation.params.get("name", "")), operands)
        if law is None or not isinstance(found[0], Random):
            return found
        return [as_promised(found[0], law), *found[1:]]

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise NotUnderstoodError(f"it takes more than {_MOST_STEPS:,} operations", None)

    def _has_draws(self, equation: Any) -> bool:
        """Whether an operation draws, itself or in a program that it calls."""
        if equation.primitive.name in (*_DRAWING, "platform_index"):
            return True
        return any(self._program_has_draws(inner) for inner in _programs(equation.params))

    def _program_has_draws(self, jaxpr: Any) -> bool:
        if id(jaxpr) not in self._drawing:
            found = any(self._has_draws(equation) for equation in jaxpr.eqns)
            self._drawing[id(jaxpr)] = jaxpr, found
        return self._drawing[id(jaxpr)][1]

    def _source(self, equation: Any, site: _Site) -> Source | None:
        info = site.info if site.info is not None else equation.source_info
        key = id(info.traceback)
        if key not in self._sources:
            self._sources[key] = info.traceback, source_of(info)
        return self._sources[key][1]


def _programs(params: Any) -> list[Any]:
    found = []
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found


def _constant(value: Any) -> Known:
    if is_key(value.dtype):
        return Known(value, from_key=True)
    return Known(np.asarray(value))
