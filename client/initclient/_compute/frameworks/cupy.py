"""CuPy's arrays, on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from initcore import BackendError, Layout, MissingPackageError
from initcore.backends import Backend
from initcore.resolve import Resolved
from numpy.typing import NDArray

from initclient._compute.frameworks._framework import refuse_unless_known
from initclient._compute.frameworks._gpu import make_cupy


class Cupy:
    """CuPy and a GPU."""

    on_gpu = True

    def __init__(self, device: Any) -> None:
        try:
            import cupy
        except ImportError as error:
            raise MissingPackageError("CuPy", "cuda13", "framework='cupy'") from error
        self._cupy = cupy
        number = _cuda_number(device)
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except Exception as error:
            raise BackendError(f"framework='cupy' found no usable GPU: {error}") from error
        self._number: int = cupy.cuda.Device().id if number is None and count else number or 0
        if self._number >= count:
            raise BackendError(f"device is {device!r}, and CuPy finds {count} CUDA devices")

    def check(self, layout: Layout) -> None:
        for entry in layout.entries:
            refuse_unless_known(entry.tensor, not entry.tensor.dtype.name.startswith("F8"), "CuPy")

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        return self._shaped(make_cupy(backend, tensor, self._number), tensor)

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        with self._cupy.cuda.Device(self._number):
            flat = self._cupy.asarray(array.reshape(-1).view(tensor.dtype.storage))
        return self._shaped(flat, tensor)

    def _shaped(self, flat: Any | None, tensor: Resolved) -> Any | None:
        return None if flat is None else flat.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


def load(device: Any) -> Cupy:
    """CuPy with a GPU: a number, "cuda:1" or a cupy.cuda.Device."""
    return Cupy(device)


def _cuda_number(device: Any) -> int | None:
    """CUDA's number of a device: from a number, "cuda:1" or a cupy.cuda.Device."""
    if device is None or device == "cuda":
        return None
    number = getattr(device, "id", device)
    if isinstance(number, str) and number.startswith("cuda:") and number[5:].isdecimal():
        return int(number[5:])
    if isinstance(number, int | np.integer) and not isinstance(number, bool) and number >= 0:
        return int(number)
    raise ValueError(f"device is {device!r}; give a number, 'cuda:1' or a cupy.cuda.Device")
