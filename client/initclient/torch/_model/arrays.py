"""The memory of torch's tensors as NumPy arrays."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import torch
from initcore.dtypes import canonical_name
from numpy.typing import NDArray


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """The name in plans of an element type of torch."""
    return canonical_name(dtype)


def host_bytes(tensor: torch.Tensor) -> NDArray[np.uint8] | None:
    """The bytes of a tensor's elements, in row-major order, in the tensor's own memory.

    Args:
        tensor: a detached tensor of any element type; it has to outlive the array.

    Returns:
        A writable 1-D array; None if the elements are not contiguous and aligned in host memory,
        or if the tensor is of a subclass, which may store them differently.
    """
    if (
        type(tensor) is not torch.Tensor
        or not tensor.is_cpu
        or tensor.layout is not torch.strided
        or not tensor.is_contiguous()
        or tensor.data_ptr() % tensor.element_size()
        or tensor.is_neg()  # its memory holds the negated values
    ):
        return None
    size = tensor.numel() * tensor.element_size()
    if not size:
        return np.empty(0, dtype=np.uint8)
    # Not tensor.numpy(), after which FSDP could no longer resize the storage to free it.
    memory = (ctypes.c_uint8 * size).from_address(tensor.data_ptr())
    return np.frombuffer(memoryview(memory), dtype=np.uint8)
