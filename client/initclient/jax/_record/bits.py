"""Bits: random integers, and the arithmetic by which JAX makes uniform draws of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from initclient._laws import Law, NotUnderstoodError, Uniform

_BITS_OF_FLOAT32 = 23


@dataclass(frozen=True)
class Bits(Law):
    """Integers whose lowest bits are random.

    Attributes:
        count: how many bits are random.
        above: the bits above them.
    """

    count: int
    above: int = 0


def through_bits(law: Law, operation: str, amount: int) -> Law:
    """The law of `x >> amount`, or of `x | amount`.

    Raises:
        NotUnderstoodError: if it is no such law again.
    """
    if isinstance(law, Bits) and operation == "shift_right_logical" and not law.above:
        if 0 <= amount < law.count:
            return replace(law, count=law.count - amount)
    elif isinstance(law, Bits) and operation == "or" and not amount & ((1 << law.count) - 1):
        return replace(law, above=law.above | amount)
    raise NotUnderstoodError("its arithmetic is on the bits of a draw", None)


def from_bits(law: Law, dtype: Any) -> Law:
    """The law of floats with these bits: uniform on [1, 2), if the bits say so.

    Raises:
        NotUnderstoodError: for other bits.
    """
    if isinstance(law, Bits) and jnp.issubdtype(dtype, jnp.floating):
        one = np.ones((), dtype).view(f"u{np.dtype(dtype).itemsize}")
        count = jnp.finfo(dtype).nmant  # type: ignore[no-untyped-call]
        if law.count == count and law.above == int(one):
            return Uniform(1.0, 2.0, 1 << count, _gaps(count))
    raise NotUnderstoodError("it takes the bits of a draw for another type's", None)


def _gaps(count: int) -> tuple[float, float]:
    """The step of JAX's uniform draws at both bounds; 0 for float32 and wider types."""
    step = 2.0**-count if count < _BITS_OF_FLOAT32 else 0.0
    return step, step
