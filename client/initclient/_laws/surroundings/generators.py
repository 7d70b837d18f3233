"""The random generators of the process that are neither torch's nor JAX's: NumPy's and Python's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np


def global_states() -> tuple[str, Any]:
    """The states of the global generators of NumPy and Python, to be compared."""
    # NumPy's as text: it is a tuple with an array in it, or another form in other releases.
    with np.printoptions(threshold=100_000):
        return repr(np.random.get_state()), random.getstate()


def numbers_taken(before: tuple[str, Any]) -> Iterator[str]:
    """Which of them have given numbers, as sentences.

    Args:
        before: their states before the code ran.
    """
    numpy_state, python_state = global_states()
    if numpy_state != before[0]:
        yield "the code took numbers from numpy.random, which no seed of a plan reaches"
    if python_state != before[1]:
        yield "the code took numbers from Python's random, which no seed of a plan reaches"
