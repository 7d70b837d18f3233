"""Liveness: the operations of a traced program that its wanted results need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend import core

Mask = tuple[bool, ...]


class Liveness:
    """Finds the needed operations of programs, and remembers them."""

    def __init__(self) -> None:
        # The program is kept, so that no other one gets its id.
        self._known: dict[tuple[int, Mask], tuple[Any, list[Any], Mask]] = {}

    def needed(self, jaxpr: Any, wanted: Sequence[bool]) -> tuple[list[Any], Mask]:
        """The operations that the wanted results need, in order, and which inputs they read."""
        key = id(jaxpr), tuple(wanted)
        if key not in self._known:
            self._known[key] = (jaxpr, *self._find(jaxpr, wanted))
        return self._known[key][1:]

    def inputs(self, equation: Any, wanted: Sequence[bool]) -> Mask:
        """Which inputs of an operation its wanted results need."""
        name, params = equation.primitive.name, equation.params
        everything = tuple(True for _ in equation.invars)
        if name == "scan":
            return self._of_scan(params, wanted)
        inner = called(equation)
        if inner is None or len(inner.invars) != len(equation.invars):
            return everything
        return self.needed(inner, wanted)[1]

    def carried(self, params: Any, wanted: Sequence[bool]) -> tuple[bool, ...]:
        """Which results of one step of a scan are needed, those that only later steps read too."""
        constants, carries = params["num_consts"], params["num_carry"]
        now = tuple(wanted)
        while True:
            read = self.needed(params["jaxpr"].jaxpr, now)[1]
            again = read[constants : constants + carries]
            more = (
                *(a or b for a, b in zip(now[:carries], again, strict=True)),
                *now[carries:],
            )
            if more == now:
                return now
            now = more

    def _of_scan(self, params: Any, wanted: Sequence[bool]) -> Mask:
        now = self.carried(params, wanted)
        read = self.needed(params["jaxpr"].jaxpr, now)[1]
        constants, carries = params["num_consts"], params["num_carry"]
        inner = read[constants : constants + carries]
        carry = tuple(a or b for a, b in zip(inner, now[:carries], strict=True))
        return (*read[:constants], *carry, *read[constants + carries :])

    def _find(self, jaxpr: Any, wanted: Sequence[bool]) -> tuple[list[Any], Mask]:
        live = {
            out
            for out, is_wanted in zip(jaxpr.outvars, wanted, strict=True)
            if is_wanted and not isinstance(out, core.Literal)
        }
        found = []
        for equation in reversed(jaxpr.eqns):
            mask = [out in live for out in equation.outvars]
            if not any(mask):
                continue
            found.append(equation)
            for read, is_read in zip(equation.invars, self.inputs(equation, mask), strict=True):
                if is_read and not isinstance(read, core.Literal):
                    live.add(read)
        return found[::-1], tuple(one in live for one in jaxpr.invars)


# Operations that call a program once, with their own inputs.
_CALLS = {
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat",
    "remat2",
}


def called(equation: Any) -> Any:
    """The program that an operation calls once with its own inputs; None for other operations."""
    program = called_with_constants(equation)
    return getattr(program, "jaxpr", program)


def called_with_constants(equation: Any) -> Any:
    """The program of `called`, with its constants where the operation holds them."""
    if equation.primitive.name not in _CALLS:
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        if inner is not None and not isinstance(inner, str):
            return inner
    return None
