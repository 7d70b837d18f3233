"""How everything in this package is compiled."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": False}
"""Options of `numba.njit`.

No fast mathematics: it fuses and reorders operations, which changes bits. NumPy's error model:
with Python's, a loop with a division checks each divisor and is not vectorized. nogil: threads
share the work.
"""
