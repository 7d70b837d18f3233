"""The weights of a plan as arrays, computed in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
from initcore import Entry
from initcore.file import Progress
from initcore.machine import new_memory
from numpy.typing import NDArray

from initclient._compute.batching import batches
from initclient._compute.frameworks import Framework
from initclient._source import Request

# Small tensors are filled together, so many at a time; a larger one is a batch of its own.
_BATCH_BYTES = 16 << 20


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
    done = layout.data_begin
    arrays: dict[str, Any] = {}
    for batch in batches(layout.entries, _BATCH_BYTES):
        on_host: list[tuple[Entry, NDArray[Any]]] = []
        for entry in batch:
            tensor = entry.tensor
            if framework.on_gpu:
                # Its place in the order is taken here, also if its values come later.
                made = arrays[tensor.name] = framework.make(backend, tensor)
                if made is not None:
                    continue
            on_host.append((entry, new_memory(tensor.nbytes).view(tensor.dtype.storage)))
        file.fill_all(on_host)
        for entry, values in on_host:
            tensor = entry.tensor
            shaped: NDArray[Any] = np.ndarray(tensor.shard_shape, tensor.dtype.numpy, values)
            arrays[tensor.name] = framework.take(shaped, tensor)
        if progress:
            for entry in batch:
                done += entry.nbytes
                progress(done, layout.size)
    return arrays
