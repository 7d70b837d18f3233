"""Backends: NumPy (the reference), Numba and CuPy. All give the same bits."""

from __future__ import annotations

from initcore.backends._base import Backend
from initcore.backends.numpy import NumpyBackend, philox
from initcore.backends.selection import BACKENDS, load, select

__all__ = ["BACKENDS", "Backend", "NumpyBackend", "load", "philox", "select"]
