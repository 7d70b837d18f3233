"""torchtitan 0.3 on CPUs: replaces what asks for a GPU by name, and has tokens that count.

    python -m tests.launchers.torchtitan_on_cpu PROGRAM [ARGUMENTS]

runs a program so, with torchtitan's debug model of Llama 3 in `llama3_on_cpu`. Importing this
module is enough.
"""

from __future__ import annotations

import itertools
import os
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

os.environ.setdefault("LOCAL_RANK", "0")

from torchtitan.tools import utils

utils.device_type = "cpu"
utils.device_module = SimpleNamespace(
    set_device=lambda device: None,
    synchronize=lambda device=None: None,
    device_count=lambda: 1,
    current_device=lambda: 0,
    get_device_name=lambda device=None: "CPU",
    get_device_properties=lambda device=None: SimpleNamespace(total_memory=1 << 30),
    memory_stats=lambda device=None: {},
    reset_peak_memory_stats=lambda: None,
    empty_cache=lambda: None,
)

from torch.distributed.fsdp import FSDPModule  # noqa: E402
from torchtitan.components.dataloader import BaseDataLoader  # noqa: E402
from torchtitan.components.tokenizer import BaseTokenizer  # noqa: E402
from torchtitan.distributed import utils as distributed  # noqa: E402
from torchtitan.models.common.attention import ScaledDotProductAttention  # noqa: E402
from torchtitan.models.llama3.config_registry import llama3_debugmodel  # noqa: E402

# It calls torch.distributed.set_timeout, which torch 2.13 does not have.
distributed.set_pg_timeouts = lambda *given, **named: None

_set_factor = FSDPModule.set_gradient_divide_factor


def _set_factor_on_gloo(module: FSDPModule, factor: float) -> None:
    # gloo has no reduction that divides.
    module.set_force_sum_reduction_for_comms(True)
    _set_factor(module, factor)


FSDPModule.set_gradient_divide_factor = _set_factor_on_gloo  # type: ignore[method-assign]


class Counting(BaseDataLoader):
    """Tokens that count upwards: all ranks together see the same batch in any layout."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        pass

    def __init__(self, config: Any, **given: Any) -> None:
        self.rank, self.world = given["dp_rank"], given["dp_world_size"]
        self.length, self.rows = given["seq_len"], given["local_batch_size"]

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        for batch in itertools.count(self.rank, self.world):
            rows = torch.arange(batch * self.rows, (batch + 1) * self.rows)[:, None]
            tokens = (rows * 37 + torch.arange(self.length + 1)) % 2048
            yield {"input": tokens[:, :-1]}, tokens[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class NoTokenizer(BaseTokenizer):
    """There is no text."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseTokenizer.Config):
        pass

    def __init__(self, config: Any, **given: Any) -> None:
        super().__init__()

    def encode(self, *args: Any, **kwargs: Any) -> list[int]:
        raise NotImplementedError

    def decode(self, *args: Any, **kwargs: Any) -> str:
        raise NotImplementedError

    def get_vocab_size(self) -> int:
        return 2048


def llama3_on_cpu() -> Any:
    """torchtitan's `llama3_debugmodel`, with sizes for a CPU and attention that needs no GPU."""
    config = llama3_debugmodel()
    config.training.seq_len, config.training.steps = 64, 2
    config.training.local_batch_size, config.training.global_batch_size = 2, 4
    config.training.mixed_precision_param = "float32"
    config.training.disable_cuda_graphs = True
    config.activation_checkpoint = None
    config.validator.enable = False
    config.dataloader, config.tokenizer = Counting.Config(), NoTokenizer.Config()
    for layer in config.model_spec.model.layers:
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    return config


if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
