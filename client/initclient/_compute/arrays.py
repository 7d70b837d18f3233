"""The weights of a plan as arrays, computed in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
from initcore.file import Progress
from initcore.machine import new_memory
from numpy.typing import NDArray

from initclient._compute.frameworks import Framework
from initclient._source import Request


def compute_arrays(
    request: Request, framework: Framework, progress: Progress | None = None
) -> dict[str, Any]:
    """The framework's arrays by name, in the plan's order.

    Args:
        request: the plan.
        framework: makes the arrays.
        progress: called after each tensor with the bytes done and in all.
    """
    layout, backend = request.layout, request.backend(on_gpu=framework.on_gpu)
    file = request.open(backend)
    done, arrays = layout.data_begin, {}
    for entry in layout.entries:
        tensor = entry.tensor
        array = framework.make(backend, tensor) if framework.on_gpu else None
        if array is None:
            memory = new_memory(tensor.nbytes)
            file.fill(entry, memory.view(tensor.dtype.storage))
            shaped: NDArray[Any] = np.ndarray(tensor.shard_shape, tensor.dtype.numpy, memory)
            array = framework.take(shaped, tensor)
        arrays[tensor.name] = array
        done += tensor.nbytes
        if progress:
            progress(done, layout.size)
    return arrays
