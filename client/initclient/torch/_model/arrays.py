"""The memory of torch's tensors as NumPy sees it."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray


def host_bytes(tensor: torch.Tensor) -> NDArray[np.uint8] | None:
    """The bytes of a tensor's elements, in row-major order, in the tensor's own memory.

    Args:
        tensor: of any element type, detached; it has to outlive the array.

    Returns:
        A writable 1-D array; None if the elements do not lie in host memory, one after the
        other and aligned, or if the tensor is of a class that keeps them in a way of its own.
    """
    if (
        type(tensor) is not torch.Tensor
        or tensor.device.type != "cpu"
        or tensor.layout != torch.strided
        or not tensor.is_contiguous()
        or tensor.data_ptr() % tensor.element_size()
        or tensor.is_neg()  # its memory holds its values with the other sign
    ):
        return None
    size = tensor.numel() * tensor.element_size()
    if not size:
        return np.empty(0, dtype=np.uint8)
    # Not tensor.numpy(): it forbids that storage ever to be resized, as FSDP does to free it.
    memory = (ctypes.c_uint8 * size).from_address(tensor.data_ptr())
    return np.frombuffer(memoryview(memory), dtype=np.uint8)
