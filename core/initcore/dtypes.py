"""Element types: their names in safetensors files, sizes, NumPy types and largest values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class DType:
    """An element type.

    Attributes:
        name: its name in safetensors files and plans, such as "BF16".
        numpy: the NumPy (or ml_dtypes) type of arrays that hold it.
        kind: "float", "int" or "bool".
        max: the largest finite value.
        min: the least finite value.
    """

    name: str
    numpy: np.dtype[Any]
    kind: str
    max: float | int
    min: float | int

    @cached_property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @cached_property
    def storage(self) -> np.dtype[Any]:
        """The native type that holds the bits: float64, float32, or an unsigned integer."""
        if self.name in ("F64", "F32"):
            return self.numpy
        return np.dtype(f"u{self.itemsize}")


def _float(name: str, numpy: Any) -> DType:
    dtype = np.dtype(numpy)
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return DType(name, dtype, "float", largest, -largest)


def _integer(name: str, numpy: Any) -> DType:
    info = np.iinfo(numpy)
    return DType(name, np.dtype(numpy), "int", int(info.max), int(info.min))


DTypeName = Literal[
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
    "double",
    "float",
    "half",
]
"""The names that type checkers take: those of `DTYPES`, NumPy's, and torch's short ones."""

DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        _float("F64", np.float64),
        _float("F32", np.float32),
        _float("F16", np.float16),
        _float("BF16", ml_dtypes.bfloat16),
        _float("F8_E4M3", ml_dtypes.float8_e4m3fn),
        _float("F8_E5M2", ml_dtypes.float8_e5m2),
        _integer("I64", np.int64),
        _integer("I32", np.int32),
        _integer("I16", np.int16),
        _integer("I8", np.int8),
        _integer("U64", np.uint64),
        _integer("U32", np.uint32),
        _integer("U16", np.uint16),
        _integer("U8", np.uint8),
        DType("BOOL", np.dtype(np.bool_), "bool", 1, 0),
    )
}

_ALIASES = {
    **{str(dtype.numpy): name for name, dtype in DTYPES.items()},
    "double": "F64",
    "float": "F32",
    "half": "F16",
    "bool": "BOOL",
    "fp64": "F64",
    "fp32": "F32",
    "fp16": "F16",
}

_LIBRARIES = ("torch.", "jax.numpy.", "jnp.", "numpy.", "np.", "ml_dtypes.")


@cache
def _named(text: str) -> str:
    if not text.isascii():
        # Lower case and capitals would make ASCII of the Kelvin sign and the dotless i.
        return text
    library = next((prefix for prefix in _LIBRARIES if text.startswith(prefix)), "")
    short = text.removeprefix(library)
    if short.upper() in DTYPES:
        return short.upper()
    return _ALIASES.get(short.lower(), text)


def canonical_name(dtype: Any) -> str:
    """The name of an element type in plans, from any common spelling.

    Args:
        dtype: "BF16", "bfloat16", "jnp.bfloat16", a NumPy or ml_dtypes type, a torch.dtype or a
            JAX type. None is float32. Python's own float and int are NumPy's: 64 bits.

    Returns:
        A key of `DTYPES` such as "BF16"; text that names no type comes back as it is, so
        that validation can report it with the tensor's name.
    """
    if dtype is None:
        return "F32"  # as in torch and JAX: the default
    if isinstance(dtype, str):
        return _named(dtype)
    text = str(dtype)
    if text.startswith("torch."):
        return _named(text)
    try:
        return _named(str(np.dtype(dtype)))
    except TypeError:
        return text
