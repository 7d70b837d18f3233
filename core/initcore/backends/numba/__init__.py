"""The Numba backend: the reference's bits at the speed of compiled code, on all CPUs."""

from __future__ import annotations

from initcore.backends.numba._backend import NumbaBackend

__all__ = ["NumbaBackend"]
