"""Tensors made in the memory of a GPU, without a copy through the host.

Samples and constants are made on the device. Matrices, patterns and all other contents are made
on the host by `initcore.generate.generation`, and the caller copies them to the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from initcore.backends import Backend
from initcore.generate.regions import Region
from initcore.resolve import Constant, Resolved, Sampled
from initcore.stream import VALUE, Job, derive

if TYPE_CHECKING:
    from initcore.backends.cupy import CupyBackend


def is_made_on_device(backend: Backend, tensor: Resolved) -> TypeGuard[CupyBackend]:
    """Whether `fill_device` can make this tensor with this backend."""
    return backend.name == "cupy" and isinstance(tensor.content, Sampled | Constant)


def fill_device(backend: CupyBackend, tensor: Resolved, out: Any) -> None:
    """Writes the wanted part of a tensor into a device array, with the bits of every backend.

    The work is queued on CuPy's current stream; nothing waits for it.

    Args:
        backend: the backend.
        tensor: one for which `is_made_on_device` holds.
        out: contiguous 1-D CuPy array of `tensor.count` elements on the current device, whose
            type is `tensor.dtype.storage`.

    Raises:
        ValueError: for another tensor, or an array of another type or size.
    """
    storage, content = tensor.dtype.storage, tensor.content
    if not is_made_on_device(backend, tensor):
        raise ValueError(f"tensor {tensor.name!r} is made on the host, scheme {tensor.scheme}")
    if out.dtype != storage or out.shape != (tensor.count,):
        raise ValueError(
            f"out is {out.dtype} of shape {out.shape}; "
            f"it must be {storage} of shape ({tensor.count},)"
        )
    if not tensor.count:
        return
    if isinstance(content, Constant):
        # As integers: a copy of floats may change the bits of a NaN.
        word = np.dtype(f"u{storage.itemsize}")
        out.view(word).fill(int(np.frombuffer(content.pattern, dtype=word)[0]))
    elif isinstance(content, Sampled):
        values = derive(VALUE, tensor.seed, tensor.stream_name)
        job = Job(content.draw, values, tensor.dtype.name)
        for offset, runs in Region(tensor.shape, tensor.bounds).runs(0, tensor.count):
            backend.fill_device(job, runs, out[offset : offset + runs.count])
    if tensor.zero_rows:
        start, stop = tensor.bounds[0]
        rows = out.reshape(stop - start, -1)
        for row in tensor.zero_rows:
            if start <= row < stop:
                rows[row - start] = 0
