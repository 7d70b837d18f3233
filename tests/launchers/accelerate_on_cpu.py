"""Accelerate 1.15 with tensor parallelism and FSDP2 on CPUs, where it takes no such arguments.

Importing this module is enough.
"""

from __future__ import annotations

import os
from typing import Any

from accelerate import ParallelismConfig
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

# Otherwise each of the processes counts itself alone where there is no GPU.
os.environ["ACCELERATE_USE_CPU"] = "true"

_start = AcceleratorState.__init__


def _started(self: Any, *arguments: Any, fsdp_plugin: Any = None, **keywords: Any) -> None:
    # Only kinds of accelerators take a plugin there; on CPUs it is left out without a word.
    _start(self, *arguments, fsdp_plugin=fsdp_plugin, **keywords)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


ParallelismConfig._validate_accelerator = lambda self, accelerator: None  # type: ignore[method-assign]
AcceleratorState.__init__ = _started  # type: ignore[method-assign]
