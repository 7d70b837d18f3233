"""Tensors made in the memory of a GPU, for torch, JAX and CuPy.

Each function returns False or None if the values have to pass through host memory: for another
backend or device, and for schemes that only the host computes.
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

    Runs after the work that is queued on torch's current stream; when it returns, the values are
    complete.

    Args:
        backend: the backend that computes.
        tensor: the tensor to make.
        destination: a torch tensor of the wanted part's shape and element type, of any
            strides.

    Returns:
        Whether the values were made.
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
    # As integers of the same size, since DLPack and CuPy lack some element types.
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
        backend: the backend that computes.
        tensor: the tensor to make.
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
        backend: the backend that computes.
        tensor: the tensor to make.
        device: a jax.Device.
    """
    if device.platform != "gpu" or not tensor.count:
        return None
    made = make_cupy(backend, tensor, device.local_hardware_id)
    if made is None:
        return None
    import jax

    # A copy on the device: JAX reserves most of the memory, and CuPy gets by with the rest, so
    # the result must lie in JAX's memory.
    array = jax.dlpack.from_dlpack(made, device=device, copy=True)
    return array.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


def default_jax_device() -> Any:
    """JAX's default device, which users can change."""
    import jax

    (device,) = jax.device_put(np.uint8(0)).devices()
    return device
