"""Functions of drawn numbers as compiled code takes them: `Step` in source/steps.h."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from initcore.stream import Step

# a, b, function.
_STEP = struct.Struct("@ddQ")

FUNCTIONS = (
    *("add", "multiply", "clamp", "abs", "square", "sqrt", "reciprocal"),
    *("exp", "expm1", "log", "log1p", "softplus", "inverse_softplus"),
)
"""Their names, in the order of `FUNCTION_ADD` and so on."""

_NUMBERS = {name: number for number, name in enumerate(FUNCTIONS)}


def packed_steps(steps: Sequence[Step]) -> bytes:
    """The functions, one after the other, as an array of `Step`."""
    return b"".join(map(_packed, steps))


def _packed(step: Step) -> bytes:
    # An infinite bound of `clamp` is none.
    a = -math.inf if step.a is None else step.a
    b = math.inf if step.b is None else step.b
    return _STEP.pack(a, b, _NUMBERS[step.function])
