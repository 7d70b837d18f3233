"""Drawing: draws by their random keys, with the exact numbers of the initializer that asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initclient._laws import (
    Arranged,
    Cell,
    Law,
    Normal,
    NotUnderstoodError,
    Patch,
    Source,
    Truncated,
    Uniform,
    Use,
)
from initclient.jax._record.bits import Bits
from initclient.jax._record.pieces import whole
from initclient.jax._trace import Known, Random, Value, agree, exactly, is_key, number, single


class Draws:
    """The draws of a traced program, by their keys, and the notes of initializers."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._notes: dict[int, list[Law]] = {}

    def drawn(self, equation: Any, keys: Value, note: Law | None, source: Source | None) -> Random:
        """The random integers that an operation draws.

        Args:
            equation: the operation, `random_bits`.
            keys: its keys, one for each row of the result.
            note: the exact law of the initializer around it; None for unknown.
            source: the line that asked for it.

        Raises:
            NotUnderstoodError: if the keys are not known, or only some of them are equal.
        """
        if not isinstance(keys, Known) or not is_key(keys.dtype):
            raise NotUnderstoodError("its random key is not known", None)
        out = equation.outvars[0].aval
        width = int(equation.params["bit_width"])
        shape = tuple(int(size) for size in equation.params["shape"])
        data = np.asarray(jax.random.key_data(keys.array))
        rows = data.reshape(math.prod(keys.shape), *data.shape[len(keys.shape) :])
        kind = str(jax.random.key_impl(keys.array))
        names = [(kind, row.tobytes()) for row in rows]
        same = len(set(names)) == 1
        if not same and len(set(names)) < len(names):
            raise NotUnderstoodError("some of its random keys are equal, and others not", None)
        kept = names[:1] if same else names
        place = ("bits", shape, width, *(() if len(kept) == 1 else (len(kept),)))
        uses = []
        for name in kept:
            draw = self._numbers.setdefault(name, len(self._numbers))
            uses.append(Use(draw, (place,)))
            if note is not None and note not in self._notes.setdefault(draw, []):
                self._notes[draw].append(note)
        sources = () if source is None else (source,)
        cell = Cell(Bits(width), tuple(uses), (), sources)
        repeated = frozenset(axis for axis, size in enumerate(keys.shape) if same and size > 1)
        made = Random(tuple(out.shape), np.dtype(out.dtype), (), repeated)
        return replace(made, patches=(Patch(whole(made.part), cell),))

    def exact(self, value: Value) -> Value:
        """The value, with the numbers of the initializer that drew it where they agree."""
        if not self._notes or not isinstance(value, Random):
            return value
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        patches = tuple(self._exact(patch, value.dtype) for patch in value.patches)
        return replace(value, patches=patches)

    def _exact(self, patch: Patch, dtype: Any) -> Patch:
        cell = patch.cell
        law = cell.law.law if isinstance(cell.law, Arranged) else cell.law
        for note in self._notes.get(cell.uses[0].draw, ()) if cell.uses else ():
            if law != note and agree(law, note, dtype):
                law = exactly(law, note)
        if isinstance(cell.law, Arranged):
            law = replace(cell.law, law=law)
        return patch if law == cell.law else Patch(patch.bounds, replace(cell, law=law))


def promised(name: str, operands: Sequence[Value]) -> Law | None:
    """The law that a function of jax.random promises.

    Args:
        name: the function's name in the traced program.
        operands: its key and its other arguments.
    """
    if not operands or not is_key(operands[0].dtype):
        return None
    if name in ("_normal", "_normal_real"):
        return Normal()
    found = [single(one) for one in operands[1:3]]
    if name not in ("_uniform", "_truncated_normal") or len(found) < 2 or None in found:
        return None
    low, high = (number(one) for one in found if one is not None)
    return Uniform(low, high) if name == "_uniform" else Truncated(0.0, 1.0, low, high)


def as_promised(value: Random, law: Law) -> Random:
    """The value with a promised law, where the traced one agrees with it."""
    patches = []
    for patch in value.patches:
        traced = patch.cell.law
        same = agree(traced, law, value.dtype)
        found = replace(patch.cell, law=exactly(traced, law)) if same else patch.cell
        patches.append(Patch(patch.bounds, found))
    return replace(value, patches=tuple(patches))
