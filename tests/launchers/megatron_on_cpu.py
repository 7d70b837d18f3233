"""Megatron-Core without a GPU: replaces the places of 0.16.1 that ask for one by name.

    python -m tests.launchers.megatron_on_cpu PROGRAM

runs a program so. Importing this module is enough.
"""

from __future__ import annotations

import contextlib
import runpy
import sys

import torch

torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]
torch.cuda.current_stream = lambda *a, **k: None  # type: ignore[assignment,return-value]
torch.cuda.Stream = lambda *a, **k: None  # type: ignore[assignment,misc]
torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign]

import megatron.core.transformer.moe.moe_utils as moe_utils  # noqa: E402
from megatron.core import parallel_state  # noqa: E402, F401
from megatron.core.tensor_parallel import random  # noqa: E402

# Missing in 0.16.1 without TransformerEngine.
moe_utils.te_general_gemm = None
random.get_cuda_rng_tracker().fork = lambda *a, **k: contextlib.nullcontext()

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
