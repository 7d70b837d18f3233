"""An extension of vLLM's workers, for tests/exhaustive/vllm_verified.py.

vLLM imports it in each worker before it loads the model.
"""

from __future__ import annotations

from typing import Any

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from vllm.model_executor.layers import utils

# On CPUs vLLM packs weights for oneDNN and drops the parameters; on GPUs they stay. With this
# argument false, they stay on CPUs too.
_pack = utils.dispatch_cpu_unquantized_gemm
utils.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight: _pack(layer, False)


class Verifier:
    """Methods that vLLM adds to its workers (`worker_extension_cls=`)."""

    model_runner: Any

    def _engine(self) -> tuple[Any, ict.Engine]:
        # One process a rank: vLLM starts torch.distributed in each, also for one.
        engine = ict.Engine(dist.get_rank(), dist.get_world_size())
        return self.model_runner.model, engine

    def verified(self, plan: str) -> tuple[int, dict[str, list[int]]]:
        """How many of the plan's tensors agree, and the shapes of this rank's parameters."""
        model, engine = self._engine()
        report = ict.verify(model, ic.load_plan(plan), "local", engine=engine)
        return len(report.agreed), {n: list(one.shape) for n, one in model.named_parameters()}

    def fingerprints(self, plan: str) -> dict[str, str]:
        """The fingerprints of the engine's weights, by the plan's names."""
        model, engine = self._engine()
        found = ict.fingerprints(model, ic.load_plan(plan), engine=engine)
        return {name: str(one) for name, one in found.items()}

    def flipped(self, plan: str, parameter: str, row: int) -> str:
        """The error while one bit of the last rank's parameter is another."""
        model, engine = self._engine()
        weight = dict(model.named_parameters())[parameter].data
        for again in (False, True):
            if engine.rank == engine.size - 1:
                weight.view(torch.int32)[row, 3] ^= 1
            if not again:
                try:
                    ict.verify(model, ic.load_plan(plan), "local", engine=engine)
                    text = "nothing was found"
                except ic.VerificationError as error:
                    text = str(error)
        return text
