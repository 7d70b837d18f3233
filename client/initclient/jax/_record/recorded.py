"""Recorded: what the code of a model's initialization drew, and the plans that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from initcore import PlanError, Tensor, Violation

from initclient._laws import composition_lines, guard_notes, laws, tensor, unknown
from initclient._laws.surroundings import LATER
from initclient.jax._record.findings import Finding, findings
from initclient.jax._record.interpreter import Interpreter
from initclient.jax._trace import Traced, traced

_DIFFERS = (
    "another run of the code gives it other values, so they come from numpy.random, from the time "
    "or from elsewhere"
)


class Recorded:
    """A tree of weights, and what its own initialization drew for each of its leaves."""

    def __init__(self, made: Traced, found: dict[str, Finding]) -> None:
        self._traced = made
        self._found = found

    @property
    def shapes(self) -> Any:
        """The tree that the code returned, with jax.ShapeDtypeStruct in place of arrays.

        Of an nnx module it is the state, without that of random generators. Leaves that are no
        arrays, such as activation functions, are in it as they are, and stay so in what
        `initclient.jax.init` makes of it.
        """
        return self._traced.shapes

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing about the recorded code, as sentences."""
        compositions = {name: one.composition for name, one in self._found.items()}
        zeros = guard_notes(compositions, "JAX", 1 << 23)
        return (*self._traced.notes, *self._shared(), *zeros)

    @property
    def refused(self) -> dict[str, str]:
        """Leaves that no plan can have, each with the reason, by name."""
        found = (one for one in self._found.values() if one.reason)
        return {one.name: _refusal(one).message for one in found}

    def explain(self, name: str) -> str:
        """What a leaf is drawn from, and by which lines of code.

        Args:
            name: its name in the plan.

        Returns:
            Text of a few lines.

        Raises:
            KeyError: if the tree has no leaf of this name.
        """
        if name not in self._found:
            raise unknown(name, self._found, "the tree has no leaf")
        one = self._found[name]
        head = f"{one.name} {list(one.shape)} {np.dtype(one.dtype).name}"
        if one.composition is None:
            lines = [f"{head}: no plan can have it, {one.reason}"]
            if one.made:
                lines.append(f"  made by: {one.made}")
            if one.source is not None:
                lines.append(f"  at {one.source}")
            return "\n".join(lines)
        if one.shares:
            head += f", the same draws as {one.shares}"
        return "\n".join([f"{head}:", *composition_lines(one.composition, "  ")])

    def tensor(self, name: str, dtype: Any, streams: dict[str, str]) -> Tensor:
        """The tensor of a plan for a leaf.

        Args:
            name: the leaf's name.
            dtype: the element type that it gets.
            streams: the names of the streams of draws that several leaves hold, by the first of
                them. The first one that has its recorded law gives its name, and is added here.

        Raises:
            PlanError: if no plan can have it.
        """
        one = self._found[name]
        if one.composition is None:
            raise PlanError([_refusal(one)])
        stream = streams.setdefault(one.shares or name, name)
        return tensor(one.composition, name, dtype, stream)

    def _shared(self) -> Iterator[str]:
        groups: dict[str, list[str]] = {}
        for one in self._found.values():
            if one.shares:
                groups.setdefault(one.shares, []).append(one.name)
        for first, names in groups.items():
            yield (
                f"one random key draws {', '.join([first, *names])}, so they hold the same values; "
                "the plan gives them one stream"
            )


def run(
    init: Callable[[], Any], names_of: Callable[[Any], Sequence[str]]
) -> tuple[Traced, dict[str, Finding]]:
    """Traces an initialization twice, and compares what was found.

    Args:
        init: a function without arguments.
        names_of: the names of the arrays of a tree, in its order.

    Raises:
        PlanError: if a recording cannot be made.
        TypeError: for what is no function without arguments.
    """
    made, found = _found(init, names_of)
    others = _found(init, names_of, ahead=LATER)[1]
    if found.keys() != others.keys():
        first = next(iter(found.keys() ^ others.keys()))
        message = "only one of two runs of the code made this leaf; record code that repeats"
        raise PlanError([Violation(first, "record", message)])
    for key, one in found.items():
        if one.composition is None:
            continue
        other = others[key].composition
        if other is None or laws(one.composition) != laws(other):
            found[key] = replace(one, composition=None, reason=_DIFFERS)
    return made, found


def _found(
    init: Callable[[], Any], names_of: Callable[[Any], Sequence[str]], ahead: float = 0.0
) -> tuple[Traced, dict[str, Finding]]:
    made = traced(init, ahead=ahead)
    names = names_of(made.shapes)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        values = Interpreter().results(made.program)
        return made, findings(names, values)


def _refusal(finding: Finding) -> Violation:
    made = f" (JAX's {finding.made})" if finding.made else ""
    place = f", at {finding.source}" if finding.source is not None else ""
    message = f"the recording does not know its law{made}{place}: {finding.reason}"
    return Violation(finding.name, "scheme", f"{message}; give it a rule")
