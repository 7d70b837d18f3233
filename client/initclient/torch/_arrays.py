"""NumPy arrays as torch tensors of the same memory, bfloat16 and float8 included."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray


def as_torch(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """The array's memory as a tensor.

    torch does not know ml_dtypes, so the bits travel as integers of the same size.

    Args:
        array: a contiguous, writable array.
        dtype: torch's name for its element type.
    """
    return torch.from_numpy(array.view(f"i{array.itemsize}")).view(dtype)
