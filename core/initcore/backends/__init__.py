"""Backends: NumPy (the reference), native code and CuPy. All give the same bits.

A backend fills an array with samples at given positions. Not here: shapes, slices, matrices
(`generate`), and the parameters of a draw (`resolve`).
"""

from __future__ import annotations

from initcore.backends._base import (
    Backend,
    ConstantsBackend,
    FunctionsBackend,
    PiecesBackend,
    RoundingBackend,
)
from initcore.backends.numpy import NumpyBackend, philox
from initcore.backends.selection import (
    BACKENDS,
    OFFERED_BACKENDS,
    BackendName,
    backend_name,
    check_backend,
    fastest_on_cpu,
    load,
    prefer_device,
    select,
)

__all__ = [
    "BACKENDS",
    "OFFERED_BACKENDS",
    "Backend",
    "BackendName",
    "ConstantsBackend",
    "FunctionsBackend",
    "NumpyBackend",
    "PiecesBackend",
    "RoundingBackend",
    "backend_name",
    "check_backend",
    "fastest_on_cpu",
    "load",
    "philox",
    "prefer_device",
    "select",
]
