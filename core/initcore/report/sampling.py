"""Elements of a plan's tensors for figures: a sample, or all elements of a small matrix."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initcore.backends import Backend
from initcore.file import Layout
from initcore.generate import Checkpoints, Generator, check_checkpoints
from initcore.report.densities import Reals
from initcore.resolve import DeltaOrthogonal, Norm, Orthogonal, Pretrained, Resolved, Sparse

# Runs in a sample: many, so that it has elements of every part of a composed tensor.
_RUNS = 64

# Matrices that can only be made as a whole are sampled up to this many elements, which takes a
# quarter of a second on one core.
_MAX_WHOLE = 1 << 22

# Elements that the norms of a sample take, at most, which is a second's work; and its norms.
_MAX_ADDED = 1 << 26
_MAX_NORMS = 100_000


class Samples:
    """Elements of the tensors of one plan, computed in this process.

    Args:
        layout: the layout of the plan's file.
        backend: draws the samples.
        checkpoints: the folder that `pretrained` tensors are read from; None leaves them out.

    Raises:
        PlanError: if a checkpoint lacks a tensor of the plan, or it differs.
    """

    def __init__(
        self, layout: Layout, backend: Backend, checkpoints: Checkpoints | None = None
    ) -> None:
        if checkpoints is not None:
            check_checkpoints([entry.tensor for entry in layout.entries], checkpoints)
        self._has_checkpoints = checkpoints is not None
        self._generator = Generator(backend, checkpoints=checkpoints)

    def obstacle(self, tensor: Resolved) -> str | None:
        """Why a tensor cannot be sampled, as the end of a sentence; None if it can."""
        for part in tensor.parts:
            found = self.obstacle(part)
            if found:
                return found
        content = tensor.content
        if isinstance(content, Pretrained) and not self._has_checkpoints:
            return f"no folder of checkpoints is given, which would have {content.checkpoint}"
        if isinstance(content, Orthogonal | Sparse):
            rows, columns = content.rows, content.columns
        elif isinstance(content, DeltaOrthogonal):
            rows, columns = content.outputs, content.inputs
        elif isinstance(content, Norm):
            whole, norms = (math.prod(one.shape) for one in (tensor.parts[0], tensor))
            count = min(norms, _MAX_NORMS) * (whole // max(norms, 1))
            return f"its norms take {count:,} elements" if count > _MAX_ADDED else None
        else:
            return None
        if rows * columns <= _MAX_WHOLE:
            return None
        return f"a matrix of {rows} x {columns} would have to be made whole"

    def some(self, tensor: Resolved, limit: int) -> Reals:
        """At most `limit` elements, spread over the wanted part; the same ones at every call."""
        count = tensor.count
        if count <= limit:
            return self._elements(tensor, 0, count)
        length = limit // _RUNS
        # At a random place within each stretch: at equal distances the runs might all fall on the
        # same columns.
        edges = [count * run // _RUNS for run in range(_RUNS + 1)]
        places = np.random.default_rng(0)
        starts = [int(places.integers(a, max(a, b - length) + 1)) for a, b in pairwise(edges)]
        return np.concatenate([self._elements(tensor, start, length) for start in starts])

    def whole(self, tensor: Resolved) -> Reals:
        """All elements of the wanted part, in its shape."""
        return self._elements(tensor, 0, tensor.count).reshape(tensor.shard_shape)

    def _elements(self, tensor: Resolved, first: int, count: int) -> Reals:
        out: NDArray[Any] = np.empty(count, dtype=tensor.dtype.storage)
        self._generator.fill(tensor, first, out)
        return out.view(tensor.dtype.numpy).astype(np.float64)
