"""Tensors made straight in the memory of a GPU that torch, JAX or CuPy looks at.

Each function gives nothing (False, None) where the values have to come by way of the host:
from a server, by another backend, on another device, or for schemes that host code makes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from initcore.backends import Backend
from initcore.generate import fill_device as fill_cupy
from initcore.generate import is_made_on_device
from initcore.resolve import Resolved


def fill_device(backend: Backend, tensor: Resolved, destination: Any) -> bool:
    """Makes a tensor's wanted part in the memory of a torch tensor.

    Work of torch that is queued on its current stream comes before; when this returns, the
    values are there.

    Args:
        backend: what computes in this process.
        tensor: what to make.
        destination: a torch tensor of the wanted part's shape and element type, of any
            strides.

    Returns:
        Whether it was done.
    """
    if not (destination.is_cuda and is_made_on_device(backend, tensor)):
        return False
    import cupy
    import torch

    if not tensor.count:
        return True
    destination = destination.detach()
    here = (
        destination
        if destination.is_contiguous()
        else torch.empty_like(destination, memory_format=torch.contiguous_format)
    )
    # Element types that DLPack or CuPy do not know travel as integers of their size.
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    with cupy.cuda.Device(destination.device.index):
        out = cupy.from_dlpack(here.view(-1).view(integers[here.element_size()]))
        fill_cupy(backend, tensor, out.view(tensor.dtype.storage))
        cupy.cuda.get_current_stream().synchronize()
    if here is not destination:
        destination.copy_(here)
    return True


def make_cupy(backend: Backend, tensor: Resolved, device: int) -> Any | None:
    """A tensor's wanted part as a new, flat CuPy array of its storage type.

    Args:
        backend: what computes in this process.
        tensor: what to make.
        device: CUDA's number of the device.
    """
    if not is_made_on_device(backend, tensor):
        return None
    import cupy

    with cupy.cuda.Device(device):
        out = cupy.empty(tensor.count, dtype=tensor.dtype.storage)
        fill_cupy(backend, tensor, out)
        cupy.cuda.get_current_stream().synchronize()
    return out


def make_jax(backend: Backend, tensor: Resolved, device: Any) -> Any | None:
    """A tensor's wanted part as a new JAX array.

    Args:
        backend: what computes in this process.
        tensor: what to make.
        device: a jax.Device.
    """
    if device.platform != "gpu" or not tensor.count:
        return None
    made = make_cupy(backend, tensor, device.local_hardware_id)
    if made is None:
        return None
    import jax

    # A copy on the device: JAX keeps most of its memory for itself, and CuPy has to live in
    # the rest, so what stays must be JAX's own.
    array = jax.dlpack.from_dlpack(made, device=device, copy=True)
    return array.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


def default_jax_device() -> Any:
    """Where JAX puts what has no device, which users can change."""
    import jax

    (device,) = jax.device_put(np.uint8(0)).devices()
    return device
