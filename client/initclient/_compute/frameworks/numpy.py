"""NumPy's arrays, on the host."""

from __future__ import annotations

from typing import Any

from initcore import Layout
from initcore.backends import Backend
from initcore.resolve import Resolved
from numpy.typing import NDArray


class Numpy:
    """NumPy: the arrays stay as they are."""

    on_gpu = False

    def __init__(self, device: Any) -> None:
        if device not in (None, "cpu"):
            raise ValueError(
                f"device is {device!r}, and NumPy has only the host; leave it out, or give "
                "framework='torch', 'jax' or 'cupy'"
            )

    def check(self, layout: Layout) -> None:
        pass

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        return None

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        return array


def load(device: Any) -> Numpy:
    """NumPy, whose only device is the host."""
    return Numpy(device)
