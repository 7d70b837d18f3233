"""Values of a traced program: known arrays, draws, and values that are not understood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from initclient._laws import Patch, Source

SMALL = 1 << 22
"""Elements of an array that may be looked at one by one."""


@dataclass(frozen=True)
class Known:
    """An array whose elements are the same in every run, but for the seed of its keys.

    Attributes:
        array: NumPy's array, whose repeated axes have stride 0, or JAX's array of keys.
        from_key: whether it is a key, or computed from one.
        info: what JAX knows of the call that computed it (`source_info`); None for inputs.
    """

    array: Any
    from_key: bool = False
    info: Any = field(default=None, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> Any:
        """Its element type."""
        return self.array.dtype


@dataclass(frozen=True)
class Random:
    """An array in which draws take part.

    Attributes:
        shape: its shape.
        dtype: its element type.
        patches: rectangles, each of one law, of which later ones hide earlier ones. They cover
            the array, or where axes are repeated its part of size 1 along these axes.
        repeated: axes along which all elements are the same draws.
    """

    shape: tuple[int, ...]
    dtype: Any
    patches: tuple[Patch, ...]
    repeated: frozenset[int] = frozenset()

    @property
    def part(self) -> tuple[int, ...]:
        """The shape that the patches cover."""
        return tuple(1 if i in self.repeated else size for i, size in enumerate(self.shape))


@dataclass(frozen=True)
class Unknown:
    """A value that is not understood.

    Attributes:
        shape: its shape.
        dtype: its element type.
        reason: why it is not understood, as half a sentence.
        made: the operation of JAX that made it.
        source: the line that asked for the operation.
    """

    shape: tuple[int, ...]
    dtype: Any
    reason: str
    made: str
    source: Source | None


Value: TypeAlias = Known | Random | Unknown
"""A value of a traced program."""


def is_key(dtype: Any) -> bool:
    """Whether an element type is that of random keys."""
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def unread(variable: Any) -> Unknown:
    """The value of a variable that no wanted result needs."""
    aval = variable.aval
    shape = tuple(getattr(aval, "shape", ()))
    return Unknown(shape, getattr(aval, "dtype", None), "it was not followed", "", None)


def core_of(array: Any) -> Any:
    """An array with size 1 along the axes that only repeat."""
    if not isinstance(array, np.ndarray):
        return array
    index = tuple(
        slice(0, 1) if stride == 0 and size else slice(None)
        for size, stride in zip(array.shape, array.strides, strict=True)
    )
    return array[index]


def single(value: Value) -> np.generic | None:
    """The one element that a known array has everywhere; None for others."""
    if not isinstance(value, Known) or is_key(value.dtype) or value.from_key:
        return None
    core = core_of(np.asarray(value.array))
    if core.size == 0 or math.prod(core.shape) > SMALL:
        return None
    first = core.flat[0]
    same = core.size == 1 or core.tobytes() == first.tobytes() * core.size
    return first if same else None


def single_of_all(values: Sequence[Value]) -> np.generic | None:
    """The one element that all of several known arrays have everywhere; None for others."""
    elements = [single(one) for one in values]
    first = elements[0] if elements else None
    if first is None or any(e is None or e.tobytes() != first.tobytes() for e in elements):
        return None
    return first


def number(element: np.generic) -> float:
    """The number that people write for an element: the shortest that rounds to it.

    A traced program holds 0.02 as the float32 0.019999999552965164; its law is that of 0.02.
    """
    value = float(element)
    dtype: Any = element.dtype
    if not math.isfinite(value) or dtype == np.float64 or not _is_floating(dtype):
        return value
    root = math.copysign(math.sqrt(2.0), value)
    if dtype.type(root) == element:
        return root
    for digits in range(1, 18):
        short = float(f"{value:.{digits}g}")
        if dtype.type(short) == element:
            return short
    return value


def _is_floating(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, np.floating))
